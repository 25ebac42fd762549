"""Schedule-Free SGD and AdamW, which need no decreasing learning rate."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules.lifted import lifted
from gradtx._schedules.warmup import warmup_constant_schedule
from gradtx._transforms.adaptive import scale_by_rms
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._wrappers.schedule_free import schedule_free


class ScheduleFree(Recipe):
    """What both optimizers share: a warm-up, and the average around a step."""

    def rate(self) -> Hyper:
        """The learning rate, with its warm-up."""
        own: Any = self
        if own.warmup_steps is None:
            return own.learning_rate
        rise = warmup_constant_schedule(0.0, 1.0, own.warmup_steps)
        return lifted("*", own.learning_rate, rise)

    def around(self, *links: Transform) -> Transform:
        """The links, the weight decay and the learning rate, and the average around them."""
        own: Any = self
        rate = self.rate()
        decay = (
            [] if own.weight_decay is None else [decoupled_weight_decay(own.weight_decay, own.mask)]
        )
        return schedule_free(
            chain(*links, *decay, scale_by_learning_rate(rate)),
            rate,
            own.b1,
            own.weight_lr_power,
            own.state_dtype,
            decay_at_z=own.decay_at_z,
        )


class schedule_free_sgd(ScheduleFree):
    r"""SGD around whose iterates `schedule_free` averages, so that the learning rate need not fall.

    $$ z_t = z_{t-1} - \eta_t (g_t + \lambda\, y_{t-1}), \qquad x_t = x_{t-1} + c_t (z_t - x_{t-1}),
       \qquad y_t = (1 - b_1) z_t + b_1 x_t $$

    The trained parameters are $y$. Evaluate with `gradtx.eval_params(tx, params, state)`, which is $x$.
    `schedule_free` says what the weights $c$ are, and what to write for narrow parameters.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        warmup_steps: the number of steps in which the learning rate rises from 0, a constant. None
            means no warm-up.
        b1: how far the trained parameters lie from $z$ towards the average, in (0, 1].
        weight_decay: the rate of decay $\lambda \ge 0$. None means no decay.
        weight_lr_power: the power of the learning rate in the weights.
        state_dtype: the dtype of $z$. None means the dtype of the parameter, and float32 at least.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decay_at_z: whether $z$ decays in place of $y$.

    The state is `optax.contrib.ScheduleFreeState(b1, weight_sum, step_count, max_lr,
    base_optimizer_state, z)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Defazio et al., 2024, arXiv:2405.15682, eq. 3-5.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.schedule_free_sgd(0.5), jnp.ones(())
    >>> state = tx.init(params)
    >>> for _ in range(3):
    ...     u, state = tx.update(params, state, params)  # the gradient of params**2 / 2
    ...     params = gradtx.apply_updates(params, u)
    >>> round(float(gradtx.eval_params(tx, params, state)), 4)
    0.2729
    """

    learning_rate: Hyper = 1.0
    warmup_steps: Fixed | None = None
    b1: Hyper = 0.9
    weight_decay: Hyper | None = None
    weight_lr_power: Hyper = 2.0
    state_dtype: DTypeLike | None = None
    mask: Any = None
    decay_at_z: bool = False

    def expand(self) -> Transform:
        return self.around()


class schedule_free_adamw(ScheduleFree):
    r"""AdamW without a momentum, around whose iterates `schedule_free` averages.

    $$ z_t = z_{t-1} - \eta_t (g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda\, y_{t-1}), \qquad
       x_t = x_{t-1} + c_t (z_t - x_{t-1}), \qquad y_t = (1 - b_1) z_t + b_1 x_t $$

    The trained parameters are $y$. Evaluate with `gradtx.eval_params(tx, params, state)`, which is $x$.
    `schedule_free` says what the weights $c$ are, and what to write for narrow parameters. Instead of a
    momentum, gradients are taken between $z$ and the average. A warm-up is needed in practice.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        warmup_steps: the number of steps in which the learning rate rises from 0, a constant. None
            means no warm-up.
        b1: how far the trained parameters lie from $z$ towards the average, in (0, 1].
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        weight_decay: the rate of decay $\lambda \ge 0$. None means no decay.
        weight_lr_power: the power of the learning rate in the weights.
        state_dtype: the dtype of $z$. None means the dtype of the parameter, and float32 at least.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decay_at_z: whether $z$ decays in place of $y$.

    The state is `optax.contrib.ScheduleFreeState(b1, weight_sum, step_count, max_lr,
    base_optimizer_state, z)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Defazio et al., 2024, arXiv:2405.15682, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.schedule_free_adamw(0.1), jnp.ones(2)
    >>> u, state = tx.update(jnp.array([1e-3, -7.0]), tx.init(params), params)
    >>> jnp.round(u, 4)
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper = 0.0025
    warmup_steps: Fixed | None = None
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    weight_decay: Hyper | None = 0.0
    weight_lr_power: Hyper = 2.0
    state_dtype: DTypeLike | None = None
    mask: Any = None
    decay_at_z: bool = False

    def expand(self) -> Transform:
        return self.around(scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True))
