"""Muon² and RMNP: Muon with a cheaper or a better conditioned matrix in place of the momentum."""

import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, scale_by_shape
from gradtx._matrices.polynomials import Polynomials
from gradtx._matrices.rows import equilibrate_rows
from gradtx._optimizers.muon import group_names_of, orthogonalize, routed
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root


class muon2(Recipe):
    r"""Muon² orthogonalizes the momentum after dividing it by a root mean square, as Adam does.

    $$ u = -\eta\, \Big(s\, \mathrm{NS}\Big(\frac{m}{\sqrt v + \epsilon}\Big)
       + \lambda\, \theta\Big) $$

    The quotient has singular values that are closer to each other than those of $m$, so that fewer steps
    of the Newton-Schulz iteration $\mathrm{NS}$ are enough.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `steps` may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, a Nesterov average of the gradients, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        coefficients: the polynomials of $\mathrm{NS}$, a preset's name or triples (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.
        exchange_dtype: the dtype in which sharded matrices travel between devices, as in `muon`.

    The state is that of `muon`, and `SecondMomentState(nu)` with $v$, an array like the parameter.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: "Muon²", 2026, arXiv:2604.09967.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.muon2(0.1, scaling="original"), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [0.0, -0.1]]), tx.init(w), w)
    >>> jnp.round(update, 1)  # close to -0.1 U V^T
    Array([[-0.1, -0. ],
           [-0. ,  0.1]], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    b2: Hyper = 0.95
    eps: Hyper = 1e-10
    weight_decay: Hyper = 0.0
    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    scaling: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    exchange_dtype: DTypeLike | None = None
    limits = {"eps": "[0, inf)"}
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        m = scale_by_momentum(self.beta, nesterov=True)
        step = chain(
            m / (root(second_moment(self.b2)) + self.eps),
            orthogonalize(self),
            scale_by_shape(self.scaling, self.axes),
        )
        return routed(self, step)


class rmnp(Recipe):
    r"""RMNP is Muon, with rows of norm one in place of the orthogonal factor.

    $$ u = -\eta\, \Big(s\, \frac{m_i}{\|m_i\|} + \lambda\, \theta\Big) $$

    for row $i$ of a hidden matrix, which holds the weights of output $i$. The norms of the rows cost a
    sum per step, and orthogonalization costs products of matrices.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        beta: the decay of the momentum $m$, an average of the gradients, in [0, 1). The paper's sum of
            the gradients has rows of the same directions.
        weight_decay: the rate of decay $\lambda \ge 0$.
        nesterov: whether the momentum looks one step ahead (`scale_by_momentum`).
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        axes: the rule that says which leaves are hidden matrices, as in `muon`.
        auxiliary: the optimizer of all other leaves. None means `adamw`, as in `muon`.

    The state is that of `muon`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Deng et al., 2026, arXiv:2603.20527.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.rmnp(0.1), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[3.0, 0.0], [4.0, 0.5]]), tx.init(w), w)
    >>> jnp.round(update / -0.1, 1)  # a column holds the weights of one output
    Array([[0.6, 0. ],
           [0.8, 1. ]], dtype=float32)
    """

    learning_rate: Hyper
    beta: Hyper = 0.95
    weight_decay: Hyper = 0.0
    nesterov: bool = False
    scaling: ShapeFactor = "original"
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names_of)  # what `routing` calls the two groups

    def expand(self) -> Transform:
        step = chain(
            scale_by_momentum(self.beta, nesterov=self.nesterov),
            equilibrate_rows(axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        return routed(self, step)
