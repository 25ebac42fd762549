"""CAME, which is Adafactor with a momentum that is trusted less where it is far from the updates."""

from typing import Any

from gradtx._compose.by import by_rank
from gradtx._compose.chain import chain, identity
from gradtx._compose.over_residual import over_residual
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.block_norms import clip_by_block_rms
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.factored import factored_second_moment
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale_by_learning_rate


class came(Recipe):
    r"""CAME divides the momentum of Adafactor's updates by the distance of the updates from it.

    $$ u = -\eta\, (m / \sqrt s + \lambda\, \theta), \qquad m = b_1 m + (1 - b_1)\, \hat u $$

    where $\hat u$ is $g / \sqrt v$, clipped as in `adafactor`, $v$ the factored second moment of $g$,
    and $s$ that of $\hat u - m$. For an array with fewer than two axes, $u = -\eta\, (m + \lambda\,
    \theta)$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the momentum $m$, in [0, 1).
        b2: the decay of $v$, in [0, 1).
        b3: the decay of $s$, in [0, 1).
        eps: a number, 0 or more, which is added to the squares in $v$.
        eps_residual: a number, 0 or more, which is added to the squares in $s$.
        clipping_threshold: the largest root mean square of $\hat u$, 0 or more.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    None of the averages is bias-corrected. The last two axes of an array are a matrix.

    The state has the momentum and, for every matrix, two numbers per row and two per column.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Luo et al., 2023, arXiv:2307.02047, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.came(0.1), jnp.zeros((2, 2))
    >>> g = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> jnp.round(tx.update(g, tx.init(w), w)[0], 3)  # -0.1 * 0.1 / (0.9 * root(1e-4))
    Array([[-1.111,  1.111],
           [ 1.111, -1.111]], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    b3: Hyper = 0.9999
    eps: Hyper = 1e-30
    eps_residual: Hyper = 1e-16
    clipping_threshold: Hyper = 1.0
    weight_decay: Hyper = 0.0
    mask: Any = None
    limits = {"eps": "[0, inf)", "eps_residual": "[0, inf)"}

    def expand(self) -> Transform:
        m = scale_by_momentum(self.b1)
        s = factored_second_moment(self.b3, self.eps_residual, 1, "last")
        return chain(
            identity() / root(factored_second_moment(self.b2, self.eps, 1, "last")),
            clip_by_block_rms(self.clipping_threshold),
            partition({True: over_residual(m, root(s)), False: m}, by_rank(2)),
            decoupled_weight_decay(self.weight_decay, self.mask),
            scale_by_learning_rate(self.learning_rate),
        )
