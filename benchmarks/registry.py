"""A benchmark is one registered function that yields numbers. Its goal stands beside it."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

Unit = Literal[
    "ratio", "s", "B", "B per parameter", "copies", "FLOP/s", "calls", "products", "events", ""
]


class Number(NamedTuple):
    """One measured number.

    `case` says to which of the benchmark's cases the number belongs. `low` and `high` are the ends of
    its 95% interval, or None for a number that is counted. `details` holds numbers beside it, each with
    its unit. A number that is `stated` is not held against the benchmark's goal.
    """

    case: str
    value: float
    unit: Unit
    low: float | None = None
    high: float | None = None
    details: Mapping[str, tuple[float, Unit]] = {}
    stated: bool = False


class Goal(NamedTuple):
    """A limit that a number should not exceed (`at_most`) or should reach (`at_least`)."""

    sense: Literal["<=", ">="]
    limit: float

    def reached(self, number: Number) -> Literal["yes", "no", "unclear"]:
        """Whether the number is on the right side; unclear if the limit lies within its interval."""
        ends = (number.value, number.low, number.high)
        sides = {self._holds(end) for end in ends if end is not None}
        return "unclear" if len(sides) > 1 else "yes" if sides == {True} else "no"

    def _holds(self, value: float) -> bool:
        return value <= self.limit if self.sense == "<=" else value >= self.limit


def at_most(limit: float) -> Goal:
    return Goal("<=", limit)


def at_least(limit: float) -> Goal:
    return Goal(">=", limit)


Function = Callable[[bool], Iterator[Number]]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a registered function measures, against whom, with which goal, and why with this goal.

    `goal` holds for every number of the function that is not stated, or maps each case to its goal.
    `skip` gives the reason for which the benchmark cannot run here, or an empty text. `xla_flags` are
    set in the process that runs the benchmark, which is one for the `device` "cpu" or "gpu".
    """

    name: str
    group: str
    what: str
    against: str
    goal: Goal | Mapping[str, Goal] | None
    because: str
    function: Function
    skip: Callable[[], str]
    xla_flags: str
    device: str

    def goal_of(self, number: Number) -> Goal | None:
        """The goal that holds for this number."""
        if number.stated:
            return None
        return self.goal.get(number.case) if isinstance(self.goal, Mapping) else self.goal


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(
    *,
    group: str,
    against: str,
    goal: Goal | Mapping[str, Goal] | None,
    because: str,
    skip: Callable[[], str] = lambda: "",
    xla_flags: str = "",
    device: Literal["cpu", "gpu"] = "cpu",
) -> Callable[[Function], Function]:
    """Register a function of `quick` (whether to measure fewer rounds) that yields numbers.

    The first sentence of its docstring says what it measures.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if name in BENCHMARKS:
            raise ValueError(f"There are two benchmarks with the name {name!r}.")
        what = (
            (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ").removesuffix(".")
        )
        BENCHMARKS[name] = Benchmark(
            name, group, what, against, goal, because, function, skip, xla_flags, device
        )
        return function

    return register
