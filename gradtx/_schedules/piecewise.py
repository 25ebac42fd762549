"""Schedules that are given by factors at boundaries: constant between them, or interpolated."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._core.authors import described
from gradtx._core.dtypes import scalar
from gradtx._core.latex import OTHERWISE, Page, Tex, cases
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.paths import SHAPES, held, path
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import number, since


class _factors(Schedule):
    """A schedule with factors at boundaries."""

    def __post_init__(self) -> None:
        given = self.boundaries_and_scales  # pyright: ignore[reportAttributeAccessIssue]
        if given is not None:
            ordered = _ordered(type(self).__name__, given)
            object.__setattr__(self, "boundaries_and_scales", ordered)
        super().__post_init__()

    @property
    def horizon(self) -> float | None:
        given = self.boundaries_and_scales  # pyright: ignore[reportAttributeAccessIssue]
        return float(max(given, default=0)) if given else 0.0


def _ordered(name: str, given: Any) -> dict[int, Any]:
    """The factors by their boundaries, from the first boundary to the last."""
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`{name}(boundaries_and_scales=...)` must map steps to factors, such as "
            f"`{{100: 0.1}}`; it is {described(given)}."
        )
    found = {}
    for boundary, factor in given.items():
        if isinstance(boundary, bool) or not isinstance(boundary, int | float) or boundary % 1:
            raise TypeError(
                f"`{name}(boundaries_and_scales=...)` has the boundary {boundary!r}; a boundary is a "
                "number of steps, which must be an integer."
            )
        if boundary < 0:
            raise ValueError(
                f"`{name}(boundaries_and_scales=...)` has the boundary {boundary!r}; a boundary must "
                "not be negative."
            )
        if callable(factor):
            raise TypeError(
                f"`{name}(boundaries_and_scales=...)` has a schedule at the boundary {boundary!r}; a "
                "factor must be a number or an array."
            )
        if isinstance(factor, int | float) and not 0 <= factor < float("inf"):
            raise ValueError(
                f"`{name}(boundaries_and_scales=...)` has the factor {factor!r} at the boundary "
                f"{boundary!r}; a factor must lie in [0, inf)."
            )
        found[int(boundary)] = factor
    return dict(sorted(found.items()))


class piecewise_constant_schedule(_factors):
    r"""A constant value that is multiplied by a factor at every boundary.

    $$ s(t) = a \prod_{i:\ b_i \le t} f_i $$

    Args:
        init_value: $a$, the value before the first boundary.
        boundaries_and_scales: a mapping from boundaries $b_i$, which are integers, to factors
            $f_i \ge 0$. The factors are leaves, and the boundaries are part of the structure; use
            `join_schedules` to sweep boundaries. None means that there are no boundaries.

    Raises:
        TypeError: if a boundary is not an integer, or if a factor is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.5})
    >>> [float(schedule(step)) for step in (9, 10, 20)]
    [1.0, 0.5, 0.25]
    """

    init_value: Fixed
    boundaries_and_scales: Mapping[int, Fixed] | None = None
    limits = {"init_value": "(-inf, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        value = held(count, self.init_value)
        for boundary, factor in (self.boundaries_and_scales or {}).items():
            value = jnp.where(since(count, boundary) >= 0, value * scalar(factor), value)
        return value

    def tex(self, n: Tex, page: Page) -> Tex:
        value, rows = number(self.init_value), []
        for boundary, factor in (self.boundaries_and_scales or {}).items():
            rows.append((page.number(value), latex.before(n, float(boundary), page)))
            value = value * number(factor)
        return cases(*rows, (page.number(value), OTHERWISE)) if rows else page.number(value)


class piecewise_interpolate_schedule(_factors):
    r"""A path through values at boundaries, where each value is a multiple of the value before it.

    The value at the boundary $b_i$ is $v_i = f_i\, v_{i-1}$, where $v_0 = a$ is the value at step 0.
    Between boundaries, the value is interpolated:

    $$ s(t) = v_{i-1} + (v_i - v_{i-1})\, h\left(\frac{t - b_{i-1}}{b_i - b_{i-1}}\right),
       \qquad h(x) = x \ \text{ or } \ h(x) = \frac{1 - \cos \pi x}{2} $$

    Args:
        interpolate_type: the interpolation $h$ between boundaries, "linear" or "cosine".
        init_value: $a$, the value at step 0.
        boundaries_and_scales: a mapping from boundaries $b_i$, which are integers, to factors
            $f_i \ge 0$. The factors are leaves, and the boundaries are part of the structure. None
            means that there are no boundaries.

    Raises:
        TypeError: if a boundary is not an integer, or if a factor is not a number or an array.
        ValueError: if a number lies outside its interval, or if `interpolate_type` is unknown.

    >>> import gradtx
    >>> schedule = gradtx.piecewise_interpolate_schedule("linear", 1.0, {4: 0.5, 8: 0.0})
    >>> [float(schedule(step)) for step in (0, 2, 4, 6, 8)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    interpolate_type: Literal["linear", "cosine"]
    init_value: Fixed
    boundaries_and_scales: Mapping[int, Fixed] | None = None
    limits = {"init_value": "(-inf, inf)"}

    def validate(self) -> None:
        if self.interpolate_type not in ("linear", "cosine"):
            raise ValueError(
                f"`piecewise_interpolate_schedule(interpolate_type={self.interpolate_type!r})` must be "
                "'linear' or 'cosine'."
            )

    def __call__(self, count: Any) -> jax.Array:
        shape, value, legs = SHAPES[self.interpolate_type], number(self.init_value), []
        for boundary, factor in (self.boundaries_and_scales or {}).items():
            value = value * number(factor)
            legs.append((boundary, value, shape))
        return path(count, self.init_value, *legs)

    def tex(self, n: Tex, page: Page) -> Tex:
        value, legs = number(self.init_value), []
        for boundary, factor in (self.boundaries_and_scales or {}).items():
            value = value * number(factor)
            legs.append((float(boundary), value, self.interpolate_type))
        return latex.path(page, n, self.init_value, *legs)
