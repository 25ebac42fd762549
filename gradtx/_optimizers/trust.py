"""LAMB, LARS and Fromage, whose steps are as long as their parameters, leaf by leaf."""

from collections.abc import Hashable
from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.partition import masked
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.lifted import lifted
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.param_scale import scale_by_trust_ratio
from gradtx._transforms.scale import scale, scale_by_learning_rate


def _where(mask: Any, tx: Transform) -> Transform:
    return tx if mask is None else masked(tx, mask)


class lamb(Recipe):
    r"""LAMB is AdamW whose update of every leaf is scaled to the norm of the parameters.

    $$ u = -\eta\, \frac{\phi(\|\theta\|)}{\|x\|}\, x, \qquad
       x = \frac{\hat m}{\sqrt{\hat v + \bar\epsilon} + \epsilon} + \lambda\, \theta $$

    Where one of the two norms is 0, $u = -\eta\, x$. The method was made for very large batches.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        max_norm: $C$ of $\phi(x) = \min(x, C)$; the authors' code takes 10. None means no bound.
        trust_ratio_mask: which leaves are scaled to the norm of their parameters, as `mask`. Some
            libraries leave out biases and gains. None means all leaves.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    Some libraries leave out the bias corrections of $\hat m$ and $\hat v$, which the paper and gradtx
    have. Some libraries divide the gradients by their global norm first:
    `chain(clip_by_global_norm(1.0), lamb(...))` does so where this norm is above 1.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: You et al., 2019, arXiv:1904.00962, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.lamb(0.1), jnp.array([3.0, 4.0])
    >>> u, _ = tx.update(jnp.array([1.0, -2.0]), tx.init(w), w)
    >>> jnp.round(u, 3)  # the step has a tenth of the norm of the parameters
    Array([-0.354,  0.354], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-6
    eps_root: Hyper | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    max_norm: Hyper | None = None
    trust_ratio_mask: Any = None
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        ratio = scale_by_trust_ratio(max_norm=self.max_norm, axis_name=self.axis_name)
        return chain(
            scale_by_adam(self.b1, self.b2, self.eps, self.eps_root),
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            _where(self.trust_ratio_mask, ratio),
            scale_by_learning_rate(self.learning_rate),
        )


class lars(Recipe):
    r"""LARS is SGD with momentum whose gradient of every leaf is scaled to the norm of the parameters.

    $$ u_t = b\, u_{t-1} - \eta\, \frac{\tau\, \|\theta\|}{\|x\| + \epsilon}\, x, \qquad
       x = g + \lambda\, \theta $$

    Where one of the two norms is 0, the quotient is replaced by 1.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        weight_decay: the rate of decay $\lambda \ge 0$.
        weight_decay_mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a
            function from the parameters to such a tree. None means all leaves.
        trust_coefficient: $\tau \ge 0$.
        eps: $\epsilon \ge 0$.
        trust_ratio_mask: which leaves are scaled to the norm of their parameters. None means all.
        momentum: $b$, in [0, 1].
        nesterov: whether the momentum looks one step ahead.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    The paper divides by $\|g\| + \lambda\, \|\theta\|$, which is at least $\|x\|$. Optax and gradtx
    divide by $\|x\|$. Some libraries apply the momentum to $x$ and scale the result to the norm of the
    parameters; here the momentum comes last, as in the paper.

    The state holds `LearningRateState(step, last_learning_rate)` and `optax.TraceState(trace)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: You, Gitman & Ginsburg, 2017, arXiv:1708.03888, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.lars(1.0, trust_coefficient=0.5), jnp.array([3.0, 4.0])
    >>> u, _ = tx.update(jnp.array([0.6, 0.8]), tx.init(w), w)
    >>> [round(float(x), 3) for x in u]  # half of the norm of the parameters
    [-1.5, -2.0]
    """

    learning_rate: Hyper
    weight_decay: Hyper = 0.0
    weight_decay_mask: Any = None
    trust_coefficient: Hyper = 0.001
    eps: Hyper = 0.0
    trust_ratio_mask: Any = None
    momentum: Hyper = 0.9
    nesterov: bool = False
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        ratio = scale_by_trust_ratio(
            trust_coefficient=self.trust_coefficient, eps=self.eps, axis_name=self.axis_name
        )
        return chain(
            decoupled_weight_decay(self.weight_decay, mask=self.weight_decay_mask),
            _where(self.trust_ratio_mask, ratio),
            scale_by_learning_rate(self.learning_rate),
            scale_by_momentum(self.momentum, "heavy_ball", self.nesterov),
        )


class fromage(Recipe):
    r"""Fromage moves every leaf by a fraction of its norm, and keeps that norm from growing.

    $$ \theta + u = \frac{1}{\sqrt{1 + \eta^2}}
       \left(\theta - \eta\, \frac{\max(\|\theta\|, c)}{\max(\|g\|, c)}\, g\right) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        min_norm: $c \ge 0$, which replaces smaller norms.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    The state holds `LearningRateState(step, last_learning_rate)`, whose rate is
    $\eta / \sqrt{1 + \eta^2}$.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Bernstein et al., 2020, arXiv:2002.03432, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.fromage(0.75), jnp.array([3.0, 4.0])  # 1 / root(1 + 0.75^2) is 0.8
    >>> w += tx.update(jnp.array([0.0, 1.0]), tx.init(w), w)[0]
    >>> [round(float(x), 3) for x in w]  # 0.8 * [3, 4 - 0.75 * 5]
    [2.4, 0.2]
    """

    learning_rate: Hyper
    min_norm: Hyper = 1e-6
    axis_name: Hashable | None = None

    def expand(self) -> Transform:
        square = lifted("*", self.learning_rate, self.learning_rate)
        shrink = lifted("raised_to", lifted("+", 1, square), -0.5)
        rate = lifted("*", self.learning_rate, shrink)
        # 1 - shrink would lose its digits, because shrink is nearly 1 for a small learning rate.
        decay = lifted("/", lifted("*", rate, rate), lifted("+", 1, shrink))
        return chain(
            scale_by_trust_ratio(self.min_norm, axis_name=self.axis_name),
            scale_by_learning_rate(rate, flip_sign=False),
            decoupled_weight_decay(decay),
            scale(-1.0),
        )
