"""Schedules that follow one after the other."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.latex import OTHERWISE, Page, Tex, cases
from gradtx._core.values import Fixed, Hyper, Value
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule, evaluate, last_horizon
from gradtx._schedules.steps import counted_from, number, since, sum_of_steps
from gradtx._schedules.warmup import warmup_cosine_decay_schedule


class join_schedules(Schedule):
    r"""Several schedules one after the other, of which each counts steps from its own beginning.

    $$ s(t) = s_i(t - b_i) \quad \text{for} \quad b_i \le t < b_{i+1}, \qquad b_0 = 0 $$

    Args:
        schedules: $s_0, s_1, \dots$, a list of schedules, numbers, or functions of the step.
        boundaries: $b_1, b_2, \dots$, a list of the steps at which the second and the later schedules
            begin. They must not decrease.

    Raises:
        TypeError: if `schedules` or `boundaries` is not a list, or if an entry is of the wrong kind.
        ValueError: if there is not one boundary less than there are schedules, or if the boundaries
            are negative or decrease.

    >>> import gradtx
    >>> rise, fall = gradtx.linear_schedule(0.0, 1.0, 10), gradtx.linear_schedule(1.0, 0.0, 10)
    >>> schedule = gradtx.join_schedules([rise, 1.0, fall], [10, 20])
    >>> [float(schedule(step)) for step in (0, 5, 15, 25)]
    [0.0, 0.5, 1.0, 0.5]
    """

    schedules: Sequence[Hyper]
    boundaries: Sequence[Fixed]

    def __post_init__(self) -> None:
        for name in ("schedules", "boundaries"):
            given = getattr(self, name)
            has_axis = isinstance(given, np.ndarray) and given.ndim == 1
            if not has_axis and not isinstance(given, tuple | list):
                raise TypeError(
                    f"`join_schedules({name}=...)` must be a list, not {described(given)}."
                )
            object.__setattr__(self, name, tuple(given))
        super().__post_init__()

    def validate(self) -> None:
        if len(self.boundaries) != len(self.schedules) - 1:
            raise ValueError(
                f"`join_schedules` has {len(self.schedules)} schedules and {len(self.boundaries)} "
                "boundaries. Give one boundary less than schedules: the step at which the second "
                "schedule begins, and so on."
            )
        for x in (*self.schedules, *self.boundaries):
            nothing = isinstance(x, Value) and not callable(x)
            if x is None or nothing or isinstance(x, tuple | Mapping):
                raise TypeError(
                    "The entries of `join_schedules` must be numbers, arrays or schedules, not "
                    f"{described(x)}."
                )
        if wrong := [x for x in self.boundaries if callable(x)]:
            raise TypeError(
                "`join_schedules(boundaries=...)` must be numbers of steps, and cannot be schedules, "
                f"such as {described(wrong[0])}."
            )
        known = [0.0, *(x for x in self.boundaries if isinstance(x, float))]
        if any(not a <= b < float("inf") for a, b in itertools.pairwise(known)):
            raise ValueError(
                f"`join_schedules(boundaries={list(self.boundaries)})` must be numbers of steps that "
                "are not negative and do not decrease."
            )

    def __call__(self, count: Any) -> jax.Array:
        first, *others = self.schedules
        value = evaluate(first, count)
        for begin, schedule in zip(self.boundaries, others, strict=True):
            here = evaluate(schedule, counted_from(count, begin))
            value = jnp.where(since(count, begin) >= 0, here, value)
        return value

    @property
    def horizon(self) -> float | None:
        begin = self.boundaries[-1] if self.boundaries else 0.0
        last = last_horizon(self.schedules[-1])
        if last is None:  # a number or a function: show some of it
            last = 0.1 * begin if isinstance(begin, float) else None
        return None if last is None else sum_of_steps(begin, last)

    def tex(self, n: Tex, page: Page) -> Tex:
        return _in_turn(n, page, self.schedules, (0.0, *self.boundaries))


class sgdr_schedule(Schedule):
    r"""Warm restarts: several cycles of a rise and a cosine decay, one after the other.

    $$ s(t) = s_i(t - b_i) \quad \text{for} \quad b_i \le t < b_i + T_i, \qquad
       b_i = T_0 + \dots + T_{i-1} $$

    where $s_i$ is the `warmup_cosine_decay_schedule` of cycle $i$, and $T_i$ is its `decay_steps`.

    Args:
        cosine_kwargs: a list of cycles, each a `warmup_cosine_decay_schedule` or a dictionary of its
            arguments.

    Raises:
        TypeError: if `cosine_kwargs` is not a list of cycles.
        ValueError: if there are no cycles, or if an argument of a cycle lies outside its interval.

    Source: Loshchilov & Hutter, 2016, arXiv:1608.03983, section 3.

    >>> import gradtx
    >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 0, "decay_steps": 10}
    >>> schedule = gradtx.sgdr_schedule([cycle, cycle | {"decay_steps": 20}])
    >>> [float(schedule(step)) for step in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 0.0]
    """

    cosine_kwargs: Sequence[warmup_cosine_decay_schedule | Mapping[str, Fixed]]

    def __post_init__(self) -> None:
        given = self.cosine_kwargs
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(
                f"`sgdr_schedule(cosine_kwargs=...)` must be a list, not {described(given)}."
            )
        cycles = tuple(
            warmup_cosine_decay_schedule(**x) if isinstance(x, Mapping) else x for x in given
        )
        if not cycles:
            raise ValueError("`sgdr_schedule(cosine_kwargs=...)` needs at least one cycle.")
        if wrong := [x for x in cycles if not isinstance(x, warmup_cosine_decay_schedule)]:
            raise TypeError(
                "`sgdr_schedule(cosine_kwargs=...)`: a cycle must be a `warmup_cosine_decay_schedule` "
                f"or a dictionary of its arguments, not {described(wrong[0])}."
            )
        object.__setattr__(self, "cosine_kwargs", cycles)
        super().__post_init__()

    def __call__(self, count: Any) -> jax.Array:
        first, *others = self.cycles
        value, begin = first(count), number(first.decay_steps)
        for cycle in others:
            here = cycle(counted_from(count, begin))
            value = jnp.where(since(count, begin) >= 0, here, value)
            begin = begin + number(cycle.decay_steps)
        return value

    @property
    def cycles(self) -> tuple[warmup_cosine_decay_schedule, ...]:
        """The cycles, in order."""
        return tuple(self.cosine_kwargs)  # pyright: ignore[reportReturnType]

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(*(cycle.decay_steps for cycle in self.cycles))

    def tex(self, n: Tex, page: Page) -> Tex:
        begins: list[Any] = [0.0]
        for cycle in self.cycles:
            begins.append(number(begins[-1]) + number(cycle.decay_steps))
        return _in_turn(n, page, self.cycles, begins[:-1])


def _in_turn(n: Tex, page: Page, schedules: Sequence[Any], begins: Sequence[Any]) -> Tex:
    """Schedules one after the other in LaTeX, each with the step at which it begins."""
    each = zip(schedules, begins, strict=True)
    values = []
    for schedule, begin in each:
        value = page.value(schedule, latex.after(n, begin, page))
        # Distinctions of cases inside each other are hard to read.
        has_cases = "cases" in value.text
        values.append(page.define("s", lambda _, value=value: value) if has_cases else value)
    ends = [latex.before(n, begin, page) for begin in begins[1:]]
    rows = zip(values, [*ends, OTHERWISE], strict=True)
    return cases(*rows) if ends else values[0]
