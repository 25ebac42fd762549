"""Two optimizers that take a step of another kind in the eigenbasis of the gradients."""

from typing import Any

import optax

from gradtx._bases.eigenbasis import eigenbasis
from gradtx._bases.in_basis import in_basis
from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, orthogonalize_newton_schulz, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import rms


class soap_muon(Recipe):
    r"""SOAP-Muon orthogonalizes a momentum whose entries were made equally large in the eigenbasis.

    $$ u = -\eta\, (s\, \mathrm{NS}(Q_L\, N\, Q_R^T) + \lambda\, \theta), \qquad
       N = n' / (\sqrt v + \epsilon), \quad n' = Q_L^T\, n\, Q_R $$

    where $n$ is the momentum, which looks one step ahead, $v$ is the average of $n'^2$, and the columns
    of $Q_L$ and $Q_R$ are the eigenvectors of the averages of $g g^T$ and $g^T g$ (`eigenbasis`). The
    first step only computes this basis.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum, in [0, 1).
        b2: the decay of the average $v$ of squares, in [0, 1).
        shampoo_beta: the decay of the averages of $g g^T$ and $g^T g$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        precondition_frequency: the number of steps from one basis to the next.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        mask: which leaves decay, as in `soap`. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, as in `soap`.
        auxiliary: the optimizer of all other leaves. None means `adamw` with `b2=0.95`.

    The record divides by the root of $\max(v, \epsilon^2)$ and not by $\sqrt v + \epsilon$. It takes
    12 steps with the coefficients (2, -1.5, 0.5), and its factor is $\sqrt{\max(1, out / in)}$: pass
    `coefficients=(2.0, -1.5, 0.5), steps=12, scaling="original"`.

    The state is that of `soap`, but the state of `signal` is `MomentumState(mu)`, and `inner` keeps the
    average of squares, `SecondMomentState(nu)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: the records 44 and 46 of the step-count track of modded-nanogpt, 2026.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.soap_muon(0.1), jnp.zeros((2, 2))
    >>> g = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> _, state = tx.update(g, tx.init(w), w)
    >>> update, _ = tx.update(g + jnp.eye(2), state, w)
    >>> s = jnp.linalg.svd(update)[1]
    >>> bool(s[1] > 0.5 * s[0])  # close to orthogonal
    True
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.9
    shampoo_beta: Hyper = 0.9
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.0
    precondition_frequency: int = 1
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        step = chain(
            in_basis(
                eigenbasis(self.shampoo_beta, self.precondition_frequency),
                identity() / (rms(self.b2) + self.eps),
                scale_by_momentum(self.beta, nesterov=True),
                axes=self.axes,
            ),
            orthogonalize_newton_schulz(self.coefficients, self.steps, axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        rate, decay = self.learning_rate, self.weight_decay
        return routed(self, step, adamw(rate, b2=0.95, weight_decay=decay, mask=self.mask))
