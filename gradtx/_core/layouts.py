"""What to do about layouts of parameters on a mesh in which a step is slow, said once.

A transformation that is slow in some layouts adds an *adviser* to the lowering (`add_adviser`): a
function of the program on a mesh, of the parameters and of their shardings, which returns an `Advice`.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding

from gradtx._core.sharding import is_explicit

_ADVISERS = "advisers on layouts"


class Advice(NamedTuple):
    """What to do about some leaves.

    Attributes:
        leaves: the numbers of the leaves. If there are none, the advice is not given.
        effect: what happens to them, in a few words, for the table of `routing`.
        sentence: what happens, and what to do.
    """

    leaves: list[int]
    effect: str = ""
    sentence: str = ""


def add_adviser(low: Any, adviser: Callable[[Any, list[Any], list[Any]], Advice]) -> None:
    """Ask this function, too, what to do about layouts."""
    low.once(_ADVISERS, dict)[adviser] = None


def advice_on(program: Any, params: list[Any], shardings: list[Any]) -> list[Advice]:
    """What the transformations of a program advise for parameters with these shardings."""
    advisers = program.lowering.once(_ADVISERS, dict)
    if not advisers or not any(isinstance(s, NamedSharding) and s.mesh.size > 1 for s in shardings):
        return []
    found = [ask(program.on_mesh, params, shardings) for ask in advisers]
    return [advice for advice in found if advice.leaves]


def warn_of_layout(program: Any, params: list[Any], shardings: list[Any], stacklevel: int) -> None:
    """Warn of what `advice_on` finds, once per optimizer."""
    said = program.tx.__dict__.setdefault("_said", set())
    for advice in advice_on(program, params, shardings):
        if advice.sentence not in said:
            said.add(advice.sentence)
            warnings.warn(advice.sentence, stacklevel=stacklevel + 1)


def known_sharding(x: Any) -> NamedSharding | None:
    """The sharding of an array on a mesh; None if it is not known.

    The type of a traced array says it on an Explicit mesh only. Inside `shard_map`, a transformation of
    matrices warns by itself.
    """
    if not isinstance(x, Tracer):
        sharding = getattr(x, "sharding", None)
        return sharding if isinstance(sharding, NamedSharding) else None
    sharding = jax.typeof(x).sharding
    is_known = is_explicit(sharding.mesh) and AxisType.Manual not in sharding.mesh.axis_types
    return sharding if is_known else None


def with_others(count: int) -> str:
    """In words, that so many other leaves share something."""
    return f" with {count} other{'s' if count > 1 else ''}" if count else ""
