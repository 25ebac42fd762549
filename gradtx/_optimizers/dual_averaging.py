"""Optimizers that step from the first parameters, or are pulled back to these: MADGRAD and SODA."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import inverse_time
from gradtx._schedules.growth import step_power
from gradtx._schedules.lifted import lifted
from gradtx._transforms.accumulators import sum_of_squares
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.pull_to_start import pull_to_start
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale


class madgrad(Recipe):
    r"""MADGRAD is dual averaging: a sum of all gradients, divided by a cube root, leads from the start.

    $$ u_t = (1 - c)\, (z_t - \theta_{t-1}), \qquad
       z_t = \theta_0 - s_t / (\sqrt[3]{\nu_t} + \epsilon) $$

    $$ s_t = s_{t-1} + \lambda_t\, g_t, \qquad \nu_t = \nu_{t-1} + \lambda_t\, |g_t|^2, \qquad
       \lambda_t = (\eta + \epsilon) \sqrt t $$

    Args:
        learning_rate: the learning rate $\eta$. This and every other number may be a schedule, or an
            array under `vmap`.
        momentum: $c$, in [0, 1), the share of the old parameters in the new ones.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
        eps: $\epsilon \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    In the state, `trace` is $s$, `sum_of_squares` is $\nu$ and `start` is $\theta_0$.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Defazio & Jelassi, 2021, arXiv:2101.11075, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.madgrad(1.0, momentum=0.0, eps=0.0), jnp.array([3.0, 3.0])
    >>> u, _ = tx.update(jnp.array([8.0, -1.0]), tx.init(w), w)
    >>> jnp.round(u, 4)  # 8 / 64**(1/3) and 1 / 1**(1/3)
    Array([-2.,  1.], dtype=float32)
    """

    learning_rate: Hyper
    momentum: Hyper = 0.9
    weight_decay: Hyper = 0.0
    eps: Hyper = 1e-6
    mask: Any = None
    limits = {"momentum": "[0, 1)", "eps": "[0, inf)"}

    def expand(self) -> Transform:
        weight = lifted("*", lifted("+", self.learning_rate, self.eps), step_power(0.5).shift(-1))
        s = chain(scale(weight), scale_by_momentum(1.0, "heavy_ball"))
        cube_root = root(sum_of_squares(weight=weight), 3)
        return chain(
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            s / (cube_root + self.eps),
            scale(-1.0),
            pull_to_start(1.0),
            scale(lifted("-", 1.0, self.momentum)),
        )


class soda(Recipe):
    r"""SODA pulls the parameters of any optimizer towards the first ones, ever less.

    $$ u_t = f(g_t) + (\theta_0 - \theta_{t-1}) / (t + 1) $$

    The pull takes the place of a weight decay, and has no number to tune.

    Args:
        inner: the optimizer $f$, of gradtx or of Optax, with its learning rate and without a decay.

    The state holds that of `inner`, and `PullToStartState(start)` with a count of steps.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `update` is called without the parameters.

    Source: "Optimistic dual averaging unifies modern optimizers", 2026, algorithm 1, where the steps
    count from 0.

    >>> import gradtx
    >>> gradtx.soda(gradtx.adam(1e-3))
    soda(adam(0.001))
    """

    inner: AsTransform

    def expand(self) -> Transform:
        # 0.5 / (1 + 0.5 t) = 1 / (t + 2), for t steps before this one.
        return chain(self.inner, pull_to_start(0.5 * inverse_time(0.5)))
