"""The values of a schedule over the steps, as drawings show them."""

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx._core.schedule import at_step
from gradtx._core.static import static
from gradtx._core.transform import Transform
from gradtx._core.values import Value

_UNKNOWN = 1000  # how many steps are shown of a schedule that does not say how long it is


class Curve(NamedTuple):
    """Values of a schedule: `values[i]` is its value at the step `steps[i]`."""

    steps: np.ndarray
    values: np.ndarray


def is_schedule(x: Any) -> bool:
    """Whether `x` is a schedule of any kind: a value, or a function of the step."""
    return callable(x) and not isinstance(x, Transform | type)


def horizon(schedule: Any) -> int:
    """How many steps show the shape of a schedule: a tenth more than it says, or 1000."""
    known = getattr(schedule, "horizon", None)
    finite = isinstance(known, float | int) and math.isfinite(known) and known > 0
    return max(math.ceil(known + known / 10), 2) if finite else _UNKNOWN  # pyright: ignore


def schedules_of(tx: Transform) -> dict[str, Any]:
    """The schedules in the fields of a transformation and of the parts inside it, by name.

    Equal schedules in fields of one name are listed once. Where schedules in fields of one name differ,
    the names of their classes stand in front.
    """
    found: dict[tuple[str, str], Any] = {}

    def visit(part: Transform) -> None:
        for name in part._data:
            value = getattr(part, name)
            if name not in part._transforms and is_schedule(value):
                found.setdefault((name, type(part).__name__), value)
        inside = [getattr(part, name) for name in part._transforms]
        for x in inside:
            several = x.values() if isinstance(x, dict) else x if type(x) is tuple else [x]
            for inner in several:
                if isinstance(inner, Transform):
                    visit(inner)

    visit(tx)
    named: dict[str, Any] = {}
    for (name, owner), schedule in found.items():
        same = [x for (other, _), x in found.items() if other == name]
        named[name if all(x == same[0] for x in same) else f"{owner}.{name}"] = schedule
    return named


def curve(schedule: Any, steps: int | None = None, points: int = 400) -> Curve | None:
    """Values of a schedule at equally distant steps, the first and the last one included.

    The result is None if the schedule cannot be evaluated here, because it holds tracers or arrays.

    Args:
        schedule: the schedule.
        steps: how many steps to show. None means as many as show the schedule's shape.
        points: the largest number of values.
    """
    leaves = jax.tree.leaves(schedule) if isinstance(schedule, Value) else []
    if any(not isinstance(x, float | int) and np.ndim(x) != 0 for x in leaves):
        return None  # a sweep
    last = horizon(schedule) if steps is None else steps - 1
    at = np.unique(np.linspace(0, max(last, 0), points).round().astype(np.int32))
    try:
        return _cached(schedule, tuple(at.tolist()))
    except TypeError:  # a schedule that is not hashable, or that does not take one step
        return _evaluated(schedule, tuple(at.tolist()))


def _evaluated(schedule: Any, steps: tuple[int, ...]) -> Curve | None:
    at = np.asarray(steps, np.int32)
    try:
        values = jax.vmap(lambda step: at_step(schedule, step))(at)
        return Curve(at, np.asarray(values, np.float64))
    except (
        Exception
    ):  # a function of a user may raise anything; it may have a Python `if` on the step
        pass
    try:
        plain = schedule.value if isinstance(schedule, static) else schedule
        return Curve(at, np.asarray([float(at_step(plain, step)) for step in at]))
    except Exception:
        return None


_cached = functools.lru_cache(maxsize=64)(
    _evaluated
)  # `summarize` draws one schedule several times
