"""StableAdamW, which takes a shorter step where the gradients are larger than their averages say."""

from collections.abc import Hashable
from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.once import once
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.block_norms import block_norm
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale_by_learning_rate


class stableadamw(Recipe):
    r"""StableAdamW is AdamW whose rate per leaf shrinks when gradients exceed their root mean square.

    $$ u = -\frac{\eta}{\max(1, r)}\, \Big(\frac{\hat m}{\sqrt{\hat v} + \epsilon}
       + \lambda\, \theta\Big), \qquad
       r = \operatorname{rms}\Big(\frac{g}{\max(\sqrt{\hat v}, \epsilon)}\Big) $$

    where rms is the root mean square over one leaf. Where a gradient is much larger than the average
    $\hat v$ remembers, AdamW would take a step that is too long.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    A step that is made shorter has a smaller decay, as in algorithm 2. Some libraries shorten the step
    and leave the decay unchanged.

    The state is that of `expand()`: `MomentumState(mu)`, `SecondMomentState(nu)`, two counters and
    `LearningRateState(step, last_learning_rate)`. The average $v$ is stored once.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Wortsman et al., 2023, arXiv:2304.13013, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.stableadamw(0.1, b1=0.0, b2=0.75, weight_decay=0.0), jnp.zeros(())
    >>> _, state = tx.update(jnp.ones(()), tx.init(w), w)
    >>> round(float(tx.update(jnp.full((), 100.0), state, w)[0]), 4)  # AdamW would move by 0.132
    -0.1
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.99
    eps: Hyper = 1e-8
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 1e-2
    mask: Any = None
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = root(once(bias_correction(second_moment(self.b2))))
        excess = chain(
            identity() / fanout("maximum", v, self.eps),
            block_norm(rms=True, axis_name=self.axis_name),
        )
        decay = decoupled_weight_decay(self.weight_decay, mask=self.mask)
        step = chain(m / (v + self.eps), decay) / fanout("maximum", excess, 1.0)
        return chain(step, scale_by_learning_rate(self.learning_rate))
