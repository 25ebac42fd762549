"""Dion and APOLLO, which work with few directions of every matrix.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax

from gradtx._bases.low_rank import low_rank
from gradtx._bases.power_iteration import orthogonalize_low_rank
from gradtx._bases.scale_in_basis import scale_in_basis
from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.orthogonalize import ShapeFactor, scale_by_shape
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.clip_by_average_norm import clip_by_average_norm
from gradtx._transforms.scale import scale


class dion(Recipe):
    r"""Dion orthogonalizes a momentum along its strongest directions, which the power method follows.

    $$ u = -\eta\, (s\, P Q^T + \lambda\, \theta) $$

    where $P Q^T$ is the update of `orthogonalize_low_rank`, and $s = \sqrt{out / in}$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            except `rank` may be a schedule, or an array under `vmap`.
        mu: the share of the used part that remains in the momentum, in [0, 1).
        rank: the number of directions. None means as many as the shorter side is long.
        scaling: the rule for the factor $s$ (`scale_by_shape`).
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay, as in `adamw`. None means all leaves.
        axes: the rule that says which leaves are hidden matrices (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same learning rate,
            weight decay and mask.

    The state holds one entry per group, "muon" and "adamw"; that of the matrices has
    `LowRankMomentumState(mu, directions)`.

    Raises:
        ValueError: if a number lies outside its interval, if a name is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Ahn et al., 2025, arXiv:2504.05295.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.dion(0.1), jnp.zeros((2, 2))
    >>> update, _ = tx.update(jnp.array([[2.0, 1.0], [1.0, 2.0]]), tx.init(w), w)
    >>> jnp.round(jnp.linalg.svd(update)[1], 3)  # the step is orthogonal
    Array([0.1, 0.1], dtype=float32)
    """

    learning_rate: Hyper
    mu: Hyper = 0.95
    rank: int | None = None
    scaling: ShapeFactor = "spectral"
    weight_decay: Hyper = 0.0
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        step = chain(
            orthogonalize_low_rank(self.mu, self.rank, axes=self.axes),
            scale_by_shape(self.scaling, self.axes),
        )
        others = adamw(self.learning_rate, weight_decay=self.weight_decay, mask=self.mask)
        return routed(self, step, others)


class apollo(Recipe):
    r"""APOLLO scales every channel of a gradient as Adam does in a random projection of low rank.

    $$ u = -\eta\, (\sqrt{\alpha}\, s_j\, g_j + \lambda\, \theta), \qquad
       s_j = \frac{\|N_j\|}{\|(B g)_j\|} $$

    where $N$ is Adam's step for the projected gradient $B g$, and $j$ is a channel: one entry of the
    longer side of a matrix (`scale_in_basis`). The norm of the step of each leaf grows by at most 1% per
    step.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        rank: the number of random directions. APOLLO-Mini has 1.
        b1: the decay of Adam's average of gradients, in [0, 1).
        b2: the decay of Adam's average of squares, in [0, 1).
        eps: a number, 0 or more, which is added to the root.
        scale: $\sqrt{\alpha}$, a factor of the steps of matrices. For APOLLO-Mini, the paper advises
            $\sqrt{128}$.
        update_proj_gap: the number of steps from one projection to the next.
        per: "channel", or "matrix" for one factor per matrix, as in APOLLO-Mini.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay, as in `adamw`. None means all leaves.
        axes: the rule that says which leaves are hidden matrices (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same numbers.

    The random directions are orthonormal here, and normal random numbers in the paper. The averages keep
    their numbers in a new projection.

    The state holds one entry per group, "muon" and "adamw". That of the matrices has
    `InBasisState(count, basis, signal, inner)` and `ClipByAverageNormState(count, norms, clipped)`.

    Raises:
        ValueError: if a number lies outside its interval, if a word is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Zhu et al., 2024, arXiv:2412.05270, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.apollo(0.1), jnp.zeros((2, 2))
    >>> g = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> update, state = tx.update(g, tx.init(w), w)
    >>> bool(jnp.all(update * g <= 0))  # every channel moves against its gradient
    True
    """

    learning_rate: Hyper
    rank: int = 256
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    scale: Hyper = 1.0
    update_proj_gap: int = 200
    per: Literal["channel", "matrix"] = "channel"
    weight_decay: Hyper = 0.0
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    group_names = property(group_names)

    def expand(self) -> Transform:
        numbers = self.b1, self.b2, self.eps
        step = chain(
            scale_in_basis(
                low_rank(self.rank, self.update_proj_gap, "random"),
                scale_by_adam(*numbers),
                on_refresh="keep",
                axes=self.axes,
                per=self.per,
            ),
            clip_by_average_norm(1.01, decay=0.0, warmup=0),
            scale(self.scale),
        )
        rate, decay = self.learning_rate, self.weight_decay
        others = adamw(rate, *numbers, weight_decay=decay, mask=self.mask)
        return routed(self, step, others)
