"""GaLore, which keeps Adam's averages in few directions of every matrix.

All other leaves (vectors, embeddings, heads) go to an auxiliary optimizer, by default AdamW.
"""

from typing import Any, Literal

import optax

from gradtx._bases.in_basis import in_basis
from gradtx._bases.low_rank import low_rank
from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._optimizers.adam import adamw
from gradtx._optimizers.routed import group_names, routed
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.scale import scale


class galore(Recipe):
    r"""GaLore is Adam on the projection of every matrix to its strongest singular vectors.

    $$ u = -\eta\, (\alpha\, P\, N + \lambda\, \theta), \qquad
       N = \hat m / (\sqrt{\hat v} + \epsilon) $$

    where $m$ and $v$ are Adam's averages of $P^T g$, and the columns of $P$ are the singular vectors of
    a recent gradient with the largest singular values. With rank $r$, the state of a matrix with $m$
    rows and $n \ge m$ columns has $2 r n + m r$ numbers.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        rank: the number of singular vectors, 1 or more.
        b1: the decay of the average $m$, in [0, 1).
        b2: the decay of the average $v$ of squares, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        scale: $\alpha$, a factor of the steps of matrices.
        update_proj_gap: the number of steps from one projection to the next.
        side: which side of a matrix is projected: the "shorter" one, as in the paper, or the "longer"
            one, the "inputs" or the "outputs".
        on_refresh: what happens to $m$ and $v$ when the projection changes: "keep", as in the paper,
            "carry" to turn $m$ into the new directions, or "reset".
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axes: the rule that says which leaves are hidden matrices, and which of their axes are inputs and
            outputs (`hidden_matrices`).
        auxiliary: the optimizer of all other leaves. None means `adamw` with the same numbers.

    Optax's `contrib.galore` projects the longer side, and its factor is 1 by default.

    The state holds one entry per group, "muon" and "adamw". That of the matrices is
    `InBasisState(count, basis, signal, inner)`, where `basis` is `LowRankState(left, right)` and `inner`
    is `optax.ScaleByAdamState(count, mu, nu)`.

    Raises:
        ValueError: if a number lies outside its interval, if a word is unknown, or if `update` is called
            without the parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if `axes` is not a rule
            for matrices, or if `auxiliary` is not a transformation.

    Source: Zhao et al., 2024, arXiv:2403.03507, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> state = gradtx.galore(0.01, rank=2).init({"kernel": jnp.zeros((8, 4))})
    >>> gradtx.get(state, "inner_states.muon.inner_state.0.0.inner.mu")["kernel"].shape
    (8, 2)
    """

    learning_rate: Hyper
    rank: int = 128
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    scale: Hyper = 0.25
    update_proj_gap: int = 200
    side: Literal["shorter", "longer", "inputs", "outputs"] = "shorter"
    on_refresh: Literal["carry", "keep", "reset"] = "keep"
    weight_decay: Hyper = 0.0
    mask: Any = None
    axes: MatrixRule = hidden_matrices()
    auxiliary: Transform | optax.GradientTransformation | None = None
    instead = {
        "base_optimizer": "write `in_basis(basis, optimizer)`, which takes every optimizer",
        "weight_dimension_numbers": "write `axes=`, a rule such as `hidden_matrices()`",
    }
    group_names = property(group_names)

    def expand(self) -> Transform:
        basis = low_rank(self.rank, self.update_proj_gap, side=self.side)
        adam = scale_by_adam(self.b1, self.b2, self.eps)
        inside = in_basis(basis, adam, on_refresh=self.on_refresh, axes=self.axes)
        others = adamw(
            self.learning_rate,
            self.b1,
            self.b2,
            self.eps,
            weight_decay=self.weight_decay,
            mask=self.mask,
        )
        return routed(self, chain(inside, scale(self.scale)), others)
