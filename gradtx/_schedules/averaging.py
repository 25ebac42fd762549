r"""The weights of averages: every average of the parameters is one recursion with its own weight.

    average <- average + w_n (theta - average)

Here `n` is the number of parameters that are in the average already, so the first weight is w_0 = 1. The
weights are schedules, which are called with `n`:

    mean_weight        1 / (n + 1)                          every theta has the same weight
    ema_weight         (1 - b) / (1 - b^(n + 1))            theta has b times the weight of the next one
    polynomial_weight  (gamma + 1) / (n + gamma + 1)        theta_t has the weight t^gamma, nearly
    power_weight       1 - (n / (n + 1))^(gamma + 1)        theta_t has the weight t^gamma, integrated
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, number, plus
from gradtx._core.numerics import log
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule


class mean_weight(Schedule):
    r"""The weight of a running mean, in which all parameters count alike.

    $$ w_n = \frac{1}{n + 1} $$

    `averaged(tx, mean_weight(), start=s, every=k)` is stochastic weight averaging (SWA): the mean of the
    parameters after the steps $s, s + k, s + 2k, \dots$

    Raises:
        TypeError: if an argument is passed, since there is none.

    Source: Izmailov et al., 2018, arXiv:1803.05407, algorithm 1.

    >>> import gradtx
    >>> [round(float(gradtx.mean_weight()(n)), 4) for n in range(3)]
    [1.0, 0.5, 0.3333]
    """

    def __call__(self, count: Any) -> jax.Array:
        return 1 / (scalar(count) + 1)

    def tex(self, n: Tex, page: Page) -> Tex:
        return fraction(Tex("1"), latex.next_step(n))


class ema_weight(Schedule):
    r"""The weight of an exponential moving average (EMA) with the decay $b$.

    $$ w_n = \frac{1 - b}{1 - b^{n+1}} \quad\text{("corrected")}, \qquad
       w_n = \max\left(1 - b, \frac{9}{10 + n}\right) \quad\text{("ramp")}, \qquad
       w_n = 1 - b \quad\text{("constant")} $$

    The form "corrected" is the average with bias correction: parameters that are $k$ steps old have
    $b^k$ times the weight of the newest ones. With "ramp" the decay is $\min(b, (1 + n)/(10 + n))$. With
    "constant" the first parameters in the average keep the weight $b^n$, which is almost 1 for the first
    $1 / (1 - b)$ steps.

    Args:
        decay: $b$, in [0, 1). The average looks back over some $1 / (1 - b)$ steps.
        form: "corrected", "ramp" or "constant".

    Raises:
        ValueError: if `decay` lies outside [0, 1), or `form` is unknown.
        TypeError: if `decay` is a schedule.

    Sources: Polyak & Juditsky, 1992; Kingma & Ba, 2014, arXiv:1412.6980, section 7.2; for "ramp" the
    `num_updates` of `tf.train.ExponentialMovingAverage`.

    >>> import gradtx
    >>> [round(float(gradtx.ema_weight(0.5)(n)), 4) for n in range(3)]
    [1.0, 0.6667, 0.5714]
    """

    decay: Fixed = 0.999
    form: Literal["corrected", "ramp", "constant"] = "corrected"
    limits = {"decay": "[0, 1)"}

    def validate(self) -> None:
        if self.form not in ("corrected", "ramp", "constant"):
            raise ValueError(
                f"`ema_weight(form={self.form!r})` must be 'corrected', 'ramp' or 'constant'."
            )

    def __call__(self, count: Any) -> jax.Array:
        last, n = scalar(1 - self.decay), scalar(count)
        if self.form == "constant":
            return last
        if self.form == "ramp":
            return jnp.maximum(last, 9 / (10 + n))
        return last / -jnp.expm1((n + 1) * log(self.decay))

    def tex(self, n: Tex, page: Page) -> Tex:
        rest = page.complement(self.decay, r"\beta")
        if self.form == "constant":
            return rest
        if self.form == "ramp":
            ramp = fraction(Tex("9"), plus(Tex("10"), n))
            return Tex(rf"\max\left({rest.text}, {ramp.text}\right)")
        base = page.number(self.decay, r"\beta").within(2)
        kept = Tex(rf"{base}^{{{latex.next_step(n).text}}}")
        return fraction(rest, plus(Tex("1"), kept, "-"))


class polynomial_weight(Schedule):
    r"""The weight of an average by polynomial decay, in which later parameters count more.

    $$ w_n = \frac{\gamma + 1}{n + \gamma + 1} $$

    The parameters of step $t$ have a weight in proportion to $t$ for $\gamma = 1$, to $t (t + 1)$ for
    $\gamma = 2$, and nearly to $t^\gamma$ in general. With $\gamma = 0$ the average is the mean.

    Args:
        gamma: $\gamma \ge 0$.

    Raises:
        ValueError: if `gamma` is negative.
        TypeError: if `gamma` is a schedule.

    Source: Shamir & Zhang, 2013, arXiv:1212.1824, section 4.

    >>> import gradtx
    >>> [round(float(gradtx.polynomial_weight(1.0)(n)), 4) for n in range(3)]
    [1.0, 0.6667, 0.5]
    """

    gamma: Fixed = 3.0
    limits = {"gamma": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        gamma = scalar(self.gamma)
        return (gamma + 1) / (scalar(count) + gamma + 1)

    def tex(self, n: Tex, page: Page) -> Tex:
        more = _one_more(self.gamma, page)
        return fraction(more, plus(n, more))


class power_weight(Schedule):
    r"""The weight of an average by a power function, whose width grows with the length of the training.

    $$ w_n = 1 - \left(\frac{n}{n + 1}\right)^{\gamma + 1} $$

    After $T$ steps the parameters of step $t$ have the weight
    $(t/T)^{\gamma+1} - ((t-1)/T)^{\gamma+1}$, the integral of a density in proportion to $t^\gamma$. The
    standard deviation of this density is $\sigma T$, where $\sigma^2 = (\gamma + 1) / ((\gamma + 2)^2
    (\gamma + 3))$: $\sigma$ is 0.05 for $\gamma = 16.97$, and 0.1 for $\gamma = 6.94$.

    Args:
        gamma: $\gamma \ge 0$. With 0 the average is the mean.

    Raises:
        ValueError: if `gamma` is negative.
        TypeError: if `gamma` is a schedule.

    Source: Karras et al., 2023, arXiv:2312.02696, section 3.1.

    >>> import gradtx
    >>> [round(float(gradtx.power_weight(1.0)(n)), 4) for n in range(3)]
    [1.0, 0.75, 0.5556]
    """

    gamma: Fixed = 6.94
    limits = {"gamma": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        n = scalar(count)
        # The logarithm of n / (n + 1) is computed from 1 / (n + 1), which is exact enough for large n.
        log_kept = jnp.where(n > 0, jnp.log1p(-1 / jnp.maximum(n + 1, 2)), jnp.full_like(n, -1e30))
        return -jnp.expm1((scalar(self.gamma) + 1) * log_kept)

    def tex(self, n: Tex, page: Page) -> Tex:
        share = fraction(n, latex.next_step(n)).text
        power = _one_more(self.gamma, page).text
        return plus(Tex("1"), Tex(rf"\left({share}\right)^{{{power}}}"), "-")


def _one_more(gamma: Any, page: Page) -> Tex:
    if isinstance(gamma, float):
        return number(gamma + 1)
    return plus(page.number(gamma, r"\gamma"), Tex("1"))
