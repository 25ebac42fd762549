"""What `jax.jit` compiles one update to: its operations, and the memory that it reads and writes."""

import math
from typing import Any, NamedTuple

import jax

from gradtx._core.terms import Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import Structure
from gradtx._show.text import count_of, size_of

_ALL = (
    64  # so many parameters are compiled together; of more, one parameter of each kind is compiled
)


class Compiled(NamedTuple):
    """What `jax.jit` compiles one update to, as XLA estimates it.

    The gradients and the state are donated, so that XLA may write the results to their memory. XLA
    counts the body of a loop once, however often the loop runs.

    Attributes:
        platform: the platform that it was compiled for, such as "cpu".
        flops: the number of floating-point operations.
        bytes_moved: how many bytes the operations read from memory and write to it.
        temporary_bytes: how many bytes of memory are needed besides arguments and results.
        exact: whether all parameters were compiled together. If there are more than 64, one parameter
            of each kind is compiled, and its cost is multiplied by the number of such parameters. The
            temporaries are then those of the program that needs most.
    """

    platform: str
    flops: float
    bytes_moved: float
    temporary_bytes: int
    exact: bool

    def __str__(self) -> str:
        about, least = ("", "") if self.exact else ("about ", "at least ")
        return (
            f"compiled for {self.platform}: {about}{count_of(self.flops)}FLOP, "
            f"{about}{size_of(self.bytes_moved)} moved, "
            f"{least}{size_of(self.temporary_bytes)} of temporaries"
        )


def compiled(
    tx: Transform, params: list[Any], structure: Structure, visit: Visit, extra: dict[str, Any]
) -> Compiled:
    """The cost of one update of `tx`; nothing is run, and no array is allocated.

    Args:
        tx: the transformation.
        params: the parameters as `jax.ShapeDtypeStruct`s; None for leaves that are not optimized.
        structure: the structure of the parameters.
        visit: the record of how `tx` was lowered for these parameters.
        extra: the further keyword arguments of `update`, or their shapes.
    """
    count = sum(p is not None for p in params)
    if count <= _ALL:
        programs = [(1, _compile(tx, structure.unflatten(params), extra))]
    else:
        # Parameters of one kind cost the same. All kinds that occur equally often are compiled together.
        times: dict[int, list[int]] = {}
        for members in _kinds(params, visit).values():
            times.setdefault(len(members), []).append(members[0])
        programs = []
        for n, chosen in times.items():
            some = [p if i in chosen else None for i, p in enumerate(params)]
            programs.append((n, _compile(tx, structure.unflatten(some), extra)))
    flops = moved = 0.0
    temporary = 0
    for n, program in programs:
        cost, memory = program.cost_analysis() or {}, program.memory_analysis()
        flops += n * cost.get("flops", 0.0)
        moved += n * cost.get("bytes accessed", 0.0)
        temporary = max(temporary, getattr(memory, "temp_size_in_bytes", 0))
    return Compiled(jax.default_backend(), flops, moved, temporary, count <= _ALL)


def _compile(tx: Transform, params: Any, extra: dict[str, Any]) -> Any:
    def step(gradients: Any, state: Any, params: Any, extra: dict[str, Any]) -> Any:
        return tx.update(gradients, state, params, **extra)

    state = jax.eval_shape(tx.init, params)
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params, extra).compile()


def _kinds(params: list[Any], visit: Visit) -> dict[Any, list[int]]:
    """The indices of the parameters of each kind, which have one shape and go through the same parts."""
    parts: list[list[int]] = [[] for _ in params]

    def walk(visit: Visit) -> None:
        for i, term in enumerate(visit.stream):
            if term is not None:
                parts[i].append(id(visit))
        for inner in visit.inside:
            walk(inner)

    walk(visit)
    kinds: dict[Any, list[int]] = {}
    for i, (p, own) in enumerate(zip(params, parts, strict=True)):
        if p is not None:
            kinds.setdefault((p.shape, p.dtype, tuple(own)), []).append(i)
    return kinds


def parameters(params: list[Any]) -> int:
    """How many numbers the parameters hold."""
    return sum(math.prod(p.shape) for p in params if p is not None)
