"""Schedules that turn one library's convention for an optimizer into another's.

Two libraries often define the same optimizer up to one hyperparameter. If that hyperparameter follows
one of these schedules, gradtx's optimizer computes the same updates as the other library's.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import OTHERWISE, Page, Tex, cases, fraction, plus, sqrt, times
from gradtx._core.numerics import log
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule, evaluate, last_horizon
from gradtx._schedules.steps import as_count


class eps_hat(Schedule):
    r"""The schedule of Adam's epsilon that adds a constant epsilon to the uncorrected root.

    $$ \epsilon_t = \hat\epsilon / \sqrt{1 - b_2^t} $$

    With this epsilon, the update $\hat m / (\sqrt{\hat v} + \epsilon_t)$ of step $t$ is equal to
    $\alpha_t\, m / (\sqrt v + \hat\epsilon)$ with $\alpha_t = \sqrt{1 - b_2^t} / (1 - b_1^t)$, which is
    what Keras computes. Steps count from $t = 1$, so the schedule is called with $t - 1$.

    Args:
        eps: the constant $\hat\epsilon \ge 0$.
        decay: the decay $b_2$ of the second moment, in [0, 1).

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a field is a schedule.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, end of section 2.

    >>> import gradtx
    >>> float(gradtx.eps_hat(1e-8, 0.75)(0))
    2e-08
    """

    eps: Fixed
    decay: Fixed
    limits = {"eps": "[0, inf)", "decay": "[0, 1)"}

    def __call__(self, count: Any) -> jax.Array:
        gain = -jnp.expm1((scalar(as_count(count)) + 1) * log(self.decay))
        return scalar(self.eps) / jnp.sqrt(gain)

    def tex(self, n: Tex, page: Page) -> Tex:
        decay = page.number(self.decay, r"\beta").within(2)
        kept = Tex(rf"{decay}^{{{latex.next_step(n).text}}}")
        return fraction(page.number(self.eps, r"\epsilon"), sqrt(plus(Tex("1"), kept, "-")))


class dampened(Schedule):
    r"""The factor that torch's `dampening` puts on gradients: 1 at the first step, then $1 - d$.

    Torch's momentum buffer starts as the first gradient, which is therefore not dampened.

    Args:
        dampening: $d$, in [0, 1].

    Raises:
        ValueError: if `dampening` lies outside [0, 1].
        TypeError: if `dampening` is a schedule.
    """

    dampening: Fixed
    limits = {"dampening": "[0, 1]"}

    def __call__(self, count: Any) -> jax.Array:
        return jnp.where(as_count(count) == 0, scalar(1.0), scalar(1 - self.dampening))

    def tex(self, n: Tex, page: Page) -> Tex:
        rest = page.complement(self.dampening, "d")
        return cases((Tex("1"), rf"\text{{if }}{n.text} = 0"), (rest, OTHERWISE))


class inverse_time(Schedule):
    r"""The factor $1 / (1 + d\, t)$ after $t$ steps, which torch's AdaGrad calls `lr_decay`.

    Args:
        decay_rate: $d \ge 0$, the decay per step.

    Raises:
        ValueError: if `decay_rate` is negative.
        TypeError: if `decay_rate` is a schedule.
    """

    decay_rate: Fixed
    limits = {"decay_rate": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        return 1 / (1 + scalar(self.decay_rate) * scalar(as_count(count)))

    def tex(self, n: Tex, page: Page) -> Tex:
        grown = plus(Tex("1"), times(page.number(self.decay_rate, "d"), n))
        return fraction(Tex("1"), grown)


class from_first(Schedule):
    r"""The decay of an average that starts as its first summand: 0 at the first step, then $b$.

    An average that starts at zero needs a bias correction. With this decay it needs none, because its
    initial value has the weight 0.

    Args:
        decay: $b$, a number or a schedule.

    Raises:
        TypeError: if `decay` is not a number, an array or a schedule.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_momentum(gradtx.from_first(0.75))
    >>> u, state = tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.zeros(()), state)[0])
    (4.0, 3.0)
    """

    decay: Schedule | Hyper

    def __call__(self, count: Any) -> jax.Array:
        value = evaluate(self.decay, count)
        return jnp.where(as_count(count) == 0, jnp.zeros_like(value), value)

    @property
    def horizon(self) -> float | None:
        return last_horizon(self.decay)

    def tex(self, n: Tex, page: Page) -> Tex:
        return cases(
            (Tex("0"), rf"\text{{if }}{n.text} = 0"), (page.value(self.decay, n), OTHERWISE)
        )
