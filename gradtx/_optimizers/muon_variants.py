"""NorMuon and AdaMuon, which also divide the orthogonalized momentum of Muon by a root mean square."""

import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._matrices.rows import keep_norm, scale_by_neuron_rms, scale_to_rms
from gradtx._optimizers.muon import group_names_of, orthogonalize, routed
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale_by_sign


class normuon(Recipe):
    r"""NorMuon is Muon, with every row divided by the root mean square of that row over time.

    $$ u = -\eta\, (s\, \frac{\|O\|}{\|\hat O\|}\, \hat O + \lambda\, \theta), \qquad
       O = \mathrm{NS}(m), \qquad \hat O_{ij} = O_{ij} / (\sqrt{v_i} + \epsilon) $$

    with $\epsilon = 10^{-10}$. Row $i$ holds the weights of output $i$. The quotient of the Frobenius
    norms keeps the norm of $O$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        b2: the decay of the averages $v_i$ of $\operatorname{mean}_j O_{ij}^2$, in [0, 1).
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`, and `ScaleByNeuronRmsState(nu)` with one number per row.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Li et al., 2025, arXiv:2510.05491.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.normuon(0.1), jnp.zeros((4, 2))
    >>> update, _ = tx.update(jax.random.normal(jax.random.key(0), (4, 2)), tx.init(w), w)
    >>> neurons = jnp.linalg.norm(update, axis=0)  # in the first step all neurons move equally far
    >>> bool(jnp.isclose(*neurons))
    True
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.95
    weight_decay: Hyper = 0.0
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            orthogonalize(self),
            keep_norm(scale_by_neuron_rms(self.b2, axes=self.axes), axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        return routed(self, step)


class adamuon(Recipe):
    r"""AdaMuon orthogonalizes the sign of the momentum, and divides the result by a root mean square.

    $$ u = -\eta\, (0.2 \sqrt{mn}\, \hat O / \|\hat O\| + \lambda\, \theta), \qquad
       O = \mathrm{NS}(\operatorname{sign} M), \qquad \hat O = O / (\sqrt v + \epsilon) $$

    for a matrix with $m$ rows, $n$ columns and the momentum $M$. The root mean square of the first term
    is 0.2, about that of AdamW's updates.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $M$ and of the average $v$ of $O^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`, and `SecondMomentState(nu)` with $v$, an array like the parameter.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Si, Zhang & Shen, 2025, arXiv:2507.11005.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.adamuon(0.1), jnp.zeros((4, 2))
    >>> update, _ = tx.update(jax.random.normal(jax.random.key(0), (4, 2)), tx.init(w), w)
    >>> round(float(jnp.sqrt(jnp.mean(update**2))), 6)  # 0.1 * 0.2
    0.02
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.01
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=True),
            scale_by_sign(),
            orthogonalize(self),
            identity() / (root(second_moment(self.beta)) + self.eps),
            scale_to_rms(0.2, axes=self.axes),
        )
        return routed(self, step)
