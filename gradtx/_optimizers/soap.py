"""SOAP and KL-SOAP, which take Adam's steps in an eigenbasis that is computed from the gradients.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax

from gradtx._bases.eigenbasis import eigenbasis
from gradtx._bases.in_basis import in_basis
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._transforms.adam import scale_by_adam


def _soap(recipe: Any, statistics: Literal["gram", "kl"]) -> Transform:
    decay = recipe.b2 if recipe.shampoo_beta is None else recipe.shampoo_beta
    basis = eigenbasis(
        decay,
        recipe.precondition_frequency,
        statistics=statistics,
        max_size=recipe.max_precond_dim,
    )
    adam = scale_by_adam(recipe.b1, recipe.b2, recipe.eps, eps_hat=recipe.eps_hat)
    others = adamw(
        recipe.learning_rate,
        recipe.b1,
        recipe.b2,
        recipe.eps,
        weight_decay=recipe.weight_decay,
        mask=recipe.mask,
        eps_hat=recipe.eps_hat,
    )
    return routed(recipe, in_basis(basis, adam, axes=recipe.axes), others)


class soap(Recipe):
    r"""SOAP is Adam in the eigenbasis of Shampoo's preconditioner.

    $$ u = -\eta\, (Q_L\, N\, Q_R^T + \lambda\, \theta), \qquad
       N = \hat m / (\sqrt{\hat v} + \epsilon) $$

    where $m$ and $v$ are Adam's averages of $Q_L^T g\, Q_R$, and the columns of $Q_L$ and $Q_R$ are the
    eigenvectors of the averages of $g g^T$ and $g^T g$ (`eigenbasis`). The first step only computes this
    basis: apart from the decay, it moves no hidden matrix.

    Args:
        learning_rate: the learning rate $\eta$, in the paper 0.003; a negative rate ascends. This and
            every other number may be a schedule, or an array under `vmap`, unless its entry says that
            it must be constant.
        b1: the decay of the average $m$, in [0, 1).
        b2: the decay of the average $v$ of squares, in [0, 1).
        shampoo_beta: the decay of the averages of $g g^T$ and $g^T g$, in [0, 1). None means `b2`.
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        precondition_frequency: the number of steps from one basis to the next.
        max_precond_dim: the longest side of a matrix for which an eigenbasis is computed. A longer side
            is left unchanged. None accepts every length.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in the code of the authors.
            Then `eps` and `b2` must be constant.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, and which of their axes are inputs and
            outputs (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same numbers.

    The code of the authors multiplies the parameter by $1 - \eta \lambda$ after the step. Here decay and
    step are added, which differs by $\eta \lambda$ times the step. HeavyBall and NVIDIA's Emerging
    Optimizers also move matrices in the first step, which the authors and gradtx do not, and their
    default of `b1` is 0.9.

    The state holds one entry per group, "muon" and "adamw". That of the matrices is
    `InBasisState(count, basis, signal, inner)`, where `basis` is `EigenbasisState(left, right, q_left,
    q_right)` and `inner` is `optax.ScaleByAdamState(count, mu, nu)` in the basis.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Vyas et al., 2024, arXiv:2409.11321, algorithm 3.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.soap(0.1, weight_decay=0.0), jnp.zeros((2, 2))
    >>> g = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> _, state = tx.update(g, tx.init(w), w)  # the first step computes the basis
    >>> update, _ = tx.update(g + jnp.eye(2), state, w)
    >>> bool(jnp.linalg.norm(update) > 0.1)
    True
    """

    learning_rate: Hyper
    b1: Hyper = 0.95
    b2: Hyper = 0.95
    shampoo_beta: Hyper | None = None
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.01
    precondition_frequency: int = 10
    max_precond_dim: int | None = 10_000
    eps_hat: bool = True
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        return _soap(self, "gram")


class kl_soap(Recipe):
    r"""KL-SOAP is SOAP with averages that fit the gradients' covariance in Kullback-Leibler divergence.

    $$ L_t = b L_{t-1} + \tfrac{1 - b}{n}\, g\, R^{-1} g^T, \qquad
       R_t = b R_{t-1} + \tfrac{1 - b}{m}\, g^T L^{-1} g $$

    for an $m \times n$ matrix $g$ take the places of the averages of $g g^T$ and $g^T g$
    (`eigenbasis(statistics="kl")`).

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$, in [0, 1).
        b2: the decay of the average $v$ of squares, in [0, 1).
        shampoo_beta: $b$, the decay of $L$ and $R$, in [0, 1). None means `b2`.
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$.
        precondition_frequency: the number of steps from one basis to the next.
        max_precond_dim: the longest side of a matrix for which an eigenbasis is computed. A longer side
            is left unchanged. None accepts every length.
        eps_hat: whether $\epsilon$ is added to the uncorrected $\sqrt v$, as in `soap`. Then `eps` and
            `b2` must be constant.
        mask: which leaves decay, as in `soap`. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, as in `soap`.
        auxiliary: the optimizer of all other leaves, as in `soap`.

    The state is that of `soap`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Lin et al., 2025, arXiv:2509.03378.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.kl_soap(0.1, weight_decay=0.0), jnp.zeros((2, 2))
    >>> g = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> _, state = tx.update(g, tx.init(w), w)  # the first step computes the basis
    >>> update, _ = tx.update(g + jnp.eye(2), state, w)
    >>> bool(jnp.linalg.norm(update) > 0.1)
    True
    """

    learning_rate: Hyper
    b1: Hyper = 0.95
    b2: Hyper = 0.95
    shampoo_beta: Hyper | None = None
    eps: Hyper = 1e-8
    weight_decay: Hyper = 0.01
    precondition_frequency: int = 10
    max_precond_dim: int | None = 10_000
    eps_hat: bool = True
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        return _soap(self, "kl")
