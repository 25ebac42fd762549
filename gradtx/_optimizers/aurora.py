"""Aurora, a variant of Muon that moves all neurons of a layer equally far."""

import optax

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.balanced import orthogonalize_balanced
from gradtx._matrices.orthogonalize import ShapeFactor, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._optimizers.muon import group_names_of, routed
from gradtx._transforms.moments import scale_by_momentum


class aurora(Recipe):
    r"""Aurora is Muon, except that every neuron of a layer moves about equally far.

    $$ u = -\eta\, (s\, \operatorname{balanced}(m) + \lambda\, \theta) $$

    Where a layer has more outputs than inputs, Muon moves some of its neurons much further than others.
    `orthogonalize_balanced` ($\operatorname{balanced}$) gives the weights of all of them updates of
    about the same norm. Where a layer has more inputs than outputs, it does so for the inputs.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` and `rounds` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        rounds: how many times each step computes the orthogonal factor (`orthogonalize_balanced`).
        power: the exponent of the correction of the norms between two rounds.
        coefficients: the polynomials of the Newton-Schulz iteration (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.

    The state is that of `muon`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Dewulf et al., 2026, arXiv:2606.27715.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.aurora(0.1, rounds=4), jnp.zeros((4, 16))
    >>> u, _ = tx.update(jax.random.normal(jax.random.key(0), w.shape), tx.init(w), w)
    >>> norms = jnp.linalg.norm(u, axis=0)
    >>> bool(norms.max() < 1.5 * norms.min())
    True
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.025
    rounds: int = 2
    power: Hyper = 0.5
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "original"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        polar = orthogonalize_balanced(
            self.coefficients, self.steps, self.rounds, self.power, axes=self.axes
        )
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            polar,
            scale_by_shape(self.scaling, self.axes),
        )
        return routed(self, step)
