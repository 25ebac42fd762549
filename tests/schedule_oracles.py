"""Schedules in NumPy float64, from their equations: the same code means the same schedule there.

`Function` is a function of the step with the size of its numbers, to which a float32 result is off in
proportion, and the number of roundings that its equation costs.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Function:
    f: Callable[[np.ndarray], np.ndarray]
    size: float  # of the largest number that is added or multiplied
    ops: float = 12.0  # a difference and a quotient per share, two products and a sum, twice that

    def __call__(self, t):
        return self.f(np.asarray(t, "f8"))

    def joined(self, other, f, size=np.add):
        other = as_function(other)
        ops = self.ops + other.ops + 1
        return Function(lambda t: f(self(t), other(t)), size(self.size, other.size), ops)

    def __add__(self, other):
        return self.joined(other, np.add)

    def __sub__(self, other):
        return self.joined(other, np.subtract)

    def __mul__(self, other):
        return self.joined(other, np.multiply, np.multiply)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return as_function(other) - self

    def __neg__(self):
        return Function(lambda t: -self(t), self.size, self.ops)

    def __truediv__(self, other):
        # A test divides by schedules that stay above a half.
        return self.joined(other, np.divide, lambda a, b: a * 2 * max(1, 2 * b))

    def __rtruediv__(self, other):
        return as_function(other) / self

    def min(self, other):
        return self.joined(other, np.minimum, max)

    def max(self, other):
        return self.joined(other, np.maximum, max)

    def raised_to(self, exponent):
        return self.joined(exponent, np.power, lambda a, b: 4 * max(a, 1 / a))

    def shift(self, steps):
        return Function(lambda t: self(np.maximum(t - steps, 0)), self.size, self.ops)


def as_function(x):
    return x if isinstance(x, Function) else Function(lambda t: np.full(t.shape, float(x)), abs(x))


def share(t, begin, steps):
    if steps == 0:
        return np.where(t >= begin, 1.0, 0.0)
    return np.clip((t - begin) / steps, 0, 1)


def constant_schedule(value):
    return as_function(value)


def polynomial_schedule(init_value, end_value, power, transition_steps, transition_begin=0):
    a, b = init_value, end_value

    def f(t):
        return (a - b) * (1 - share(t, transition_begin, transition_steps)) ** power + b

    # The relative error of a power is the exponent times that of its base, where it is largest.
    return Function(f, max(abs(a), abs(b)), 12 + 4 * power)


def linear_schedule(init_value, end_value, transition_steps, transition_begin=0):
    return polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def cosine_decay_schedule(init_value, decay_steps, alpha=0.0, exponent=1.0):
    def f(t):
        cosine = (1 + np.cos(np.pi * share(t, 0, decay_steps))) / 2
        return init_value * ((1 - alpha) * np.abs(cosine) ** exponent + alpha)

    return Function(f, abs(init_value) * max(1, abs(alpha)), 12 + 8 * exponent)


def exponential_decay(
    init_value, transition_steps, decay_rate, transition_begin=0, staircase=False, end_value=None
):
    def f(t):
        phases = np.maximum(t - transition_begin, 0) / transition_steps
        phases = np.floor(phases) if staircase else phases
        value = init_value * np.exp(np.minimum(phases * math.log(decay_rate), 88))
        if end_value is None:
            return value
        return (np.maximum if decay_rate < 1 else np.minimum)(value, end_value)

    # A result x has the relative error |log x| times that of the exponent, and |log x| x < 0.4 for a
    # decay. A test of growth bounds the growth.
    size = max(abs(init_value), abs(end_value or 0))
    return Function(f, size, 20 if decay_rate <= 1 else 200 * decay_rate)


def piecewise_constant_schedule(init_value, boundaries_and_scales=None):
    table = boundaries_and_scales or {}

    def f(t):
        factors = [np.where(t >= b, x, 1.0) for b, x in table.items()]
        return math.prod(factors, start=np.full(t.shape, float(init_value)))

    return Function(f, abs(init_value) * math.prod(max(1, x) for x in table.values()))


def through(points, interpolate_type):
    """The path through points (step, value); of two at one step the later one counts."""
    steps, values = np.array(points, "f8").T

    def f(t):
        i = np.clip(np.searchsorted(steps, t, "right") - 1, 0, len(steps) - 1)
        j = np.minimum(i + 1, len(steps) - 1)
        x = (t - steps[i]) / np.where(steps[j] > steps[i], steps[j] - steps[i], np.inf)
        x = np.clip(x, 0, 1)
        x = (1 - np.cos(np.pi * x)) / 2 if interpolate_type == "cosine" else x
        return values[i] + (values[j] - values[i]) * x

    return Function(f, np.abs(values).max(), 24)


def piecewise_interpolate_schedule(interpolate_type, init_value, boundaries_and_scales=None):
    points = [(0, init_value)]
    for boundary, factor in sorted((boundaries_and_scales or {}).items()):
        points.append((boundary, points[-1][1] * factor))
    return through(points, interpolate_type)


def cosine_onecycle_schedule(
    transition_steps, peak_value, pct_start=0.3, div_factor=25.0, final_div_factor=1e4
):
    first, top = peak_value / div_factor, math.floor(pct_start * transition_steps + 1e-9)
    ends = [(0, first), (top, peak_value), (transition_steps, first / final_div_factor)]
    return through(ends, "cosine")


def linear_onecycle_schedule(
    transition_steps,
    peak_value,
    pct_start=0.3,
    pct_final=0.85,
    div_factor=25.0,
    final_div_factor=1e4,
):
    first = peak_value / div_factor
    top, back = (math.floor(x * transition_steps + 1e-9) for x in (pct_start, pct_final))
    ends = [(0, first), (top, peak_value), (back, first)]
    return through([*ends, (transition_steps, first / final_div_factor)], "linear")


def join_schedules(schedules, boundaries):
    parts = [as_function(s) for s in schedules]

    def f(t):
        value = parts[0](t)
        for part, b in zip(parts[1:], boundaries, strict=True):
            value = np.where(t >= b, part(np.maximum(t - b, 0)), value)
        return value

    return Function(f, max(x.size for x in parts), max(x.ops for x in parts))


def warmup_constant_schedule(init_value, peak_value, warmup_steps):
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value, peak_value, warmup_steps, decay_steps, end_value=0.0, exponent=1.0
):
    # 1 times a cosine to 0, as a share of the way from the peak to the end.
    way = cosine_decay_schedule(1.0, decay_steps - warmup_steps, 0.0, exponent)
    decay = (peak_value - end_value) * way + end_value
    joined = join_schedules(
        [linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps]
    )
    return dataclasses.replace(joined, size=max(map(abs, (init_value, peak_value, end_value))))


def warmup_exponential_decay_schedule(
    init_value,
    peak_value,
    warmup_steps,
    transition_steps,
    decay_rate,
    transition_begin=0,
    staircase=False,
    end_value=None,
):
    decay = exponential_decay(
        peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return join_schedules(
        [linear_schedule(init_value, peak_value, warmup_steps), decay], [warmup_steps]
    )


def warmup_stable_decay_schedule(
    init_value,
    peak_value,
    warmup_steps,
    stable_steps,
    decay_steps,
    end_value=0.0,
    decay_type="linear",
):
    h = {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + np.cos(np.pi * x)) / 2,
        "1-sqrt": lambda x: 1 - np.sqrt(x),
    }[decay_type]
    last = warmup_steps + stable_steps

    def f(t):
        rise = linear_schedule(init_value, peak_value, warmup_steps)(t)
        decay = end_value + (peak_value - end_value) * h(share(t, last, decay_steps))
        return np.where(t < warmup_steps, rise, decay)

    return Function(f, max(map(abs, (init_value, peak_value, end_value))), 24)


def warmup_inverse_sqrt_schedule(init_value, peak_value, warmup_steps, timescale=None):
    tau = timescale or warmup_steps

    def f(t):
        rise = linear_schedule(init_value, peak_value, warmup_steps)(t)
        decay = peak_value * np.sqrt(tau / (tau + np.maximum(t - warmup_steps, 0)))
        return np.where(t < warmup_steps, rise, decay)

    return Function(f, max(abs(init_value), abs(peak_value)))


def sgdr_schedule(cosine_kwargs):
    cycles = [x if isinstance(x, dict) else None for x in cosine_kwargs]
    lengths = [x["decay_steps"] for x in cycles]
    parts = [warmup_cosine_decay_schedule(**x) for x in cycles]
    return join_schedules(parts, list(np.cumsum(lengths)[:-1]))


def eps_hat(eps, decay):
    # The first gain is as small as 1 - decay, in which the rounding of the decay weighs more.
    return Function(
        lambda t: eps / np.sqrt(-np.expm1((t + 1) * math.log(decay))),
        eps / math.sqrt(1 - decay),
        12 + 1 / (1 - decay),
    )


def dampened(dampening):
    return Function(lambda t: np.where(t == 0, 1.0, 1 - dampening), 1.0)


def inverse_time(decay_rate):
    return Function(lambda t: 1 / (1 + decay_rate * t), 1.0)


def _length(decay, t):
    """Liu et al. (2019), arXiv:1908.03265, algorithm 2, for the step after `t` steps."""
    return 2 / (1 - decay) - 1 - 2 * (t + 1) * decay ** (t + 1) / (1 - decay ** (t + 1))


def rectification(decay=0.999, threshold=5.0):
    most = 2 / (1 - decay) - 1

    def f(t):
        now = np.maximum(_length(decay, t), threshold)
        ratio = (now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now)
        return np.where(_length(decay, t) >= threshold, np.sqrt(ratio), 0.0)

    return Function(f, 1.0)


def before_rectification(decay=0.999, threshold=5.0):
    return Function(lambda t: np.where(_length(decay, t) >= threshold, 0.0, 1.0), 1.0)


def power_decay(exponent, offset_steps=0):
    return Function(lambda t: 1 - np.maximum(t + 1 - offset_steps, 1) ** -exponent, 1.0)


def from_first(decay):
    return Function(lambda t: np.where(t == 0, 0.0, decay), 1.0)


def step_power(exponent, factor=1.0):
    return Function(lambda t: factor * t**exponent, abs(factor) * 2.0**8, 40.0)


def half_life_schedule(init_value, end_value, transition_steps):
    """Pagliardini, Ablin and Grangier (2024), arXiv:2409.03137, appendix A.1, as they write it."""

    def half_life(b):
        return np.log(0.5) / np.log(b) - 1

    def f(t):
        share = np.minimum(t / transition_steps, 1)
        h = (1 - share) * half_life(init_value) + share * half_life(end_value)
        return 0.5 ** (1 / (h + 1))

    return Function(f, 1.0, 24.0)


NAMES = {k: x for k, x in globals().items() if callable(x)}
