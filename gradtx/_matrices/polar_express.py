"""The Polar Express: the polynomials whose composition is the nearest to one on an interval."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from gradtx._core.function_arguments import check_arguments

# The coefficients (a, b, c) of one odd quintic a x + b x^3 + c x^5, and the coefficients of all steps.
Triple = tuple[float, float, float]
Coefficients = tuple[Triple, ...]

# Steps are unrolled, and five to ten are usual, so a larger number than this is a mistake.
MOST_STEPS = 100

F = TypeVar("F", bound=Callable[..., Any])


def _cached(f: F) -> F:
    """`functools.lru_cache`, which to a type checker keeps the signature of `f`."""
    return functools.lru_cache(maxsize=1000)(f)  # pyright: ignore


@_cached  # since `n` steps and `n + 1` steps have the first `n` intervals in common
def _nearest_to_one(lower: float, upper: float) -> Triple:
    """Return the odd quintic nearest to one on `[lower, upper]` in the maximum norm.

    It is found by Remez exchange: at the optimum, `p` takes the values `1 - E, 1 + E, 1 - E, 1 + E` at
    `lower < q < r < upper`, where `q` and `r` are the zeros of `p'`.
    """
    # On an interval about one that is this short, the flattest quintic is within 3e-12 of one, and
    # the solution of the system below would consist of rounding errors.
    a, b, c = 15 / 8, -10 / 8, 3 / 8
    if lower / upper >= 1 - 1e-4:
        return a, b, c
    # The unknowns multiply x, x t and x t^2, where t maps x^2 to [-1, 1]. In powers of x, the system
    # would be singular up to rounding on a short interval.
    center, half = (upper**2 + lower**2) / 2, (upper**2 - lower**2) / 2
    q, r, error = (3 * lower + upper) / 4, (lower + 3 * upper) / 4, math.inf
    for _ in range(100):
        x = np.array([lower, q, r, upper])
        t = (x**2 - center) / half
        system = np.stack([x, x * t, x * t**2, [1.0, -1.0, 1.0, -1.0]], axis=1)
        last, (g0, g1, g2, error) = error, np.linalg.solve(system, np.ones(4)).tolist()
        g1, g2 = g1 / half, g2 / half**2
        a, b, c = g0 - g1 * center + g2 * center**2, g1 - 2 * g2 * center, g2
        if abs(error - last) <= 1e-15:
            break
        spread = math.sqrt(9 * b**2 - 20 * a * c)
        q, r = (math.sqrt((-3 * b + sign * spread) / (10 * c)) for sign in (-1, 1))
    return a, b, c


def polar_express(
    steps: int = 5,
    lower: float = 1e-3,
    cushion: float = 0.02407327424182761,
    safety: float = 0.01,
) -> Coefficients:
    r"""Solve for the polynomials whose composition is nearest to one on `[lower, 1]`.

    Each step is the odd quintic nearest to one on the interval to which the previous steps have moved
    the singular values, $p = \arg\min \max_{l \le x \le u} |1 - p(x)|$. The interval $[l, u]$ is first
    `[lower, 1]`, and after a step it is $[p(l), 2 - p(l)]$. Although each step is chosen by itself, the
    composition of all steps is optimal.

    Args:
        steps: the number of triples.
        lower: the smallest singular value that is to reach one, relative to the norm, in (0, 1].
        cushion: a number in [0, 1). Each step is solved on $[\max(l, \mathrm{cushion} \cdot u), u]$ and
            scaled so that $p(l)$ and $p(u)$ lie at the same distance from one. This bounds the slope at
            zero.
        safety: a number, 0 or more. Every step but the last is applied to `x / (1 + safety)`, which
            leaves room for singular values that rounding has pushed above $u$.

    Returns:
        A tuple of `steps` triples `(a, b, c)` of floats, computed in float64.

    Raises:
        ValueError: if an argument lies outside its interval.
        TypeError: if `steps` is not a whole number.

    Source: Amsel et al., "The Polar Express", 2025, arXiv:2505.16932. The triples that are published
    there are for `safety=0`.

    >>> import gradtx
    >>> [round(x, 6) for x in gradtx.polar_express(safety=0.0)[0]]  # the paper's first triple
    [8.287212, -23.595887, 17.300387]
    """
    check_arguments(polar_express, locals())
    if not 1 <= operator.index(steps) <= MOST_STEPS:
        raise ValueError(f"`polar_express(steps={steps})` must lie in [1, {MOST_STEPS}].")
    if not 0 < lower <= 1:
        raise ValueError(f"`polar_express(lower={lower})` must lie in (0, 1].")
    if not 0 <= cushion < 1:
        raise ValueError(f"`polar_express(cushion={cushion})` must lie in [0, 1).")
    if not 0 <= safety < math.inf:
        raise ValueError(f"`polar_express(safety={safety})` must lie in [0, inf).")
    return _solved(operator.index(steps), float(lower), float(cushion), float(safety))


@_cached
def _solved(steps: int, lower: float, cushion: float, safety: float) -> Coefficients:
    low, high, triples = lower, 1.0, []
    for step in range(steps):
        a, b, c = _nearest_to_one(max(low, cushion * high), high)
        shrink = 1 + safety if step < steps - 1 else 1.0
        center = 2 / (evaluate((a, b, c), low) + evaluate((a, b, c), high))
        triples.append((a * center / shrink, b * center / shrink**3, c * center / shrink**5))
        low = evaluate(triples[-1], low)
        high = 2 - low
    return tuple(triples)


def evaluate(triple: Triple, x: Any) -> Any:
    """The odd quintic with the coefficients `triple` at `x`, a number or an array."""
    a, b, c = triple
    return x * (a + x * x * (b + x * x * c))
