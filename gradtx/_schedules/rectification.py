"""RAdam's rectification: how large the steps of Adam may be while its second moment is uncertain."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import OTHERWISE, Page, Tex, cases, fraction, plus, sqrt, times
from gradtx._core.numerics import log
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import as_count


class rectification(Schedule):
    r"""The factor by which RAdam shortens the steps of Adam, and 0 for its first steps.

    $$ r_t = \sqrt{\frac{(\rho_t - 4)\, (\rho_t - 2)\, \rho_\infty}
                        {(\rho_\infty - 4)\, (\rho_\infty - 2)\, \rho_t}}, \qquad
       \rho_t = \rho_\infty - \frac{2\, t\, b^t}{1 - b^t}, \qquad \rho_\infty = \frac{2}{1 - b} - 1 $$

    Here $\rho_t$ is about the number of gradients in the average of squares. While it is below the
    threshold, the factor is 0. Steps count from $t = 1$, so the schedule is called with $t - 1$.

    Args:
        decay: $b$, the decay of the second moment, in [0, 1).
        threshold: the least $\rho_t$ for which the factor is not 0. For $\rho_t \le 4$ it is 0 anyway.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a field is a schedule.

    Source: Liu et al., 2019, arXiv:1908.03265, algorithm 2.

    >>> import gradtx
    >>> schedule = gradtx.rectification(0.999)
    >>> float(schedule(4)), round(float(schedule(5)), 4), round(float(schedule(10_000)), 4)
    (0.0, 0.0258, 0.9998)
    """

    decay: Fixed = 0.999
    threshold: Fixed = 5.0
    limits = {"decay": "[0, 1)", "threshold": "(0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        most, now, long = _lengths(self, count)
        # Where the factor is 0, the formula gets lengths for which it is finite.
        most, now = jnp.where(long, most, 6.0), jnp.where(long, now, 6.0)
        ratio = ((now - 4) / (most - 4)) * ((now - 2) / (most - 2)) * (most / now)
        return jnp.where(long, jnp.sqrt(ratio), jnp.zeros_like(ratio))

    def tex(self, n: Tex, page: Page) -> Tex:
        now, most = _length_tex(self, n, page)
        factors = lambda a, b: rf"\left({a.text} - 4\right)\, \left({a.text} - 2\right)\, {b.text}"
        ratio = sqrt(fraction(Tex(factors(now, most)), Tex(factors(most, now))))
        return cases((Tex("0"), _condition(self, now, page)), (ratio, OTHERWISE))


class before_rectification(Schedule):
    r"""The factor 1 for the steps in which `rectification` is 0, and 0 from then on.

    Args:
        decay: the decay of the second moment, as in `rectification`.
        threshold: the threshold, as in `rectification`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a field is a schedule.

    Source: Liu et al., 2019, arXiv:1908.03265, algorithm 2.
    """

    decay: Fixed = 0.999
    threshold: Fixed = 5.0
    limits = {"decay": "[0, 1)", "threshold": "(0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        return scalar(~_lengths(self, count)[2])

    def tex(self, n: Tex, page: Page) -> Tex:
        now, _ = _length_tex(self, n, page)
        return cases((Tex("1"), _condition(self, now, page)), (Tex("0"), OTHERWISE))


def _lengths(schedule: Any, count: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""The lengths $\rho_\infty$ and $\rho_t$, and whether $\rho_t$ reaches the threshold."""
    x = scalar(-log(schedule.decay))
    y = (scalar(as_count(count)) + 1) * x
    # With x = -log b and y = t x, the formula of the paper is coth(x/2) - (2/x) y / (exp(y) - 1). Both
    # terms are about 2/x, and their difference would be rounded too much in the first steps. So 2/x is
    # subtracted from each of them.
    short = y < 0.5
    z = jnp.where(short, y, 0.0)
    series = z / 2 - z**2 / 12 + z**4 / 720 - z**6 / 30240 + z**8 / 1209600 - z**10 / 47900160
    z = jnp.where(short, 1.0, jnp.minimum(y, 80.0))
    missing = jnp.where(short, series, 1 - z / jnp.expm1(z))
    z = jnp.minimum(x, 0.1)
    offset = jnp.where(x < 0.1, z / 6 - z**3 / 360 + z**5 / 15120, 1 / jnp.tanh(x / 2) - 2 / x)
    most, now = 2 / x + offset, 2 / x * missing + offset
    return most, now, (now >= scalar(schedule.threshold)) & (now > 4)


def _length_tex(schedule: Any, n: Tex, page: Page) -> tuple[Tex, Tex]:
    decay, steps = page.number(schedule.decay, r"\beta"), latex.next_step(n)
    rest = page.complement(schedule.decay, r"\beta")
    most = page.define(
        r"\rho_\infty", lambda _: plus(fraction(Tex("2"), rest), Tex("1"), "-"), index=""
    )
    kept = Tex(rf"{decay.within(2)}^{{{steps.text}}}")
    lost = fraction(times(Tex("2"), times(steps, kept)), plus(Tex("1"), kept, "-"))
    return page.define(r"\rho", lambda _: plus(most, lost, "-")), most


def _condition(schedule: Any, now: Tex, page: Page) -> str:
    least = schedule.threshold
    least = max(least, 4.0) if isinstance(least, float) else least
    return rf"\text{{if }}{now.text} < {page.number(least).text}"
