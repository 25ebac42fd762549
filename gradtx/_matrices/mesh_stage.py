"""The stage of a lowered program that updates matrices on a mesh of several devices.

Transformations of matrices that follow each other share a stage, so that matrices are brought together
once for all of them. Leaves of one shape and layout form a group. How a group is updated depends on what
is known about its layout:

    exchange.py   the layout is known: from the types on an Explicit mesh, or from `laid_out`
    staged.py     the layout is not known, as in a compiled step on an Auto mesh
    long_axis.py  few matrices are much longer than wide, and devices share the work on each of them
    in_place.py   only sums over matrices are needed, and matrices stay where they are
"""

from typing import Any

import jax
from jax.sharding import AxisType

from gradtx._core.leaf import split
from gradtx._core.sharding import mesh_of
from gradtx._core.stages import Call
from gradtx._core.terms import BOUNDED, SQUARABLE, Stream, Term
from gradtx._core.tuned import settled
from gradtx._matrices.exchange import exchanged, exchanged_parts
from gradtx._matrices.in_place import fits_in_place, in_place
from gradtx._matrices.long_axis import along_long_axis, fits_long_axis
from gradtx._matrices.members import Member, in_calls, member_of
from gradtx._matrices.parts import pack
from gradtx._matrices.plans import Plan
from gradtx._matrices.staged import staged
from gradtx._matrices.steps import Step, Steps
from gradtx._matrices.units import UnitGroup


class MeshStage:
    """A stage that updates the matrices of all leaves on a mesh, by one transformation or by several.

    Args:
        axes: for every leaf the axes of its matrices, or None if the leaf is not updated here.
    """

    def __init__(self, axes: list[Any]) -> None:
        self.axes = axes
        self.leaves = [i for i, a in enumerate(axes) if a is not None]
        self.sources: list[int] = []  # registers
        self.txs: list[Any] = []
        self.calls: list[Call] = []
        self.arrays: list[Any] = []
        self.args: list[list[tuple[int, Any]]] = []
        self.results: list[int] = []  # the register of the result of each transformation

    def args_of(self, axes: list[Any], streams: tuple[Stream, ...]) -> list[tuple[int, Any]] | None:
        """What a transformation of these streams would read in this stage, or None if it could not.

        It may read the result of an earlier transformation in this stage, or what that one read. For
        every stream this is the number of a result, or -1 - k for the source k, and what clips entries.
        """
        if axes != self.axes:
            return None
        args: list[tuple[int, Any]] = []
        for stream in streams:
            terms = {id(term): term for term in stream if term is not None}
            if len(terms) != 1:
                return None
            ((term,), clip) = terms.values(), None
            if term.tx is BOUNDED or term.tx is SQUARABLE:
                clip, (term,) = term.tx, term.args
            if term.register in self.results:
                args.append((self.results.index(term.register), clip))
            elif term.register in self.sources:
                args.append((-1 - self.sources.index(term.register), clip))
            else:
                return None
        return args

    def add(self, call: Call, tx: Any, args: list[tuple[int, Any]], result: int) -> Term:
        """Add a transformation, and return the term of its result.

        Args:
            call: its place in the program.
            tx: the transformation.
            args: what it reads, see `args_of`.
            result: the register of its result.
        """
        self.calls.append(call)
        self.txs.append(tx)
        self.args.append(args)
        self.results.append(result)
        return Term(None, None, (), result)

    def source(self, register: int) -> int:
        """The number of a register among the sources."""
        if register not in self.sources:
            self.sources.append(register)
        return self.sources.index(register)

    def run(self, frame: Any) -> None:
        inputs = [frame.registers[source] for source in self.sources]
        leaves = [i for i in self.leaves if inputs[0][i] is not None]
        mesh = mesh_of(x for i in leaves for x in (inputs[0][i], frame.params and frame.params[i]))
        mesh = _checked(mesh or jax.sharding.get_abstract_mesh())
        numbers, keys = [], []
        for call, tx in zip(self.calls, self.txs, strict=True):
            key, arrays = split(tx)
            from_begin = frame.from_begin[call] if call.begins else ((), None)
            keys.append(key)
            numbers.append((settled(arrays, frame.found), from_begin))
        wanted = self._wanted(frame.low)
        steps = Steps(
            tuple(
                Step(
                    key,
                    call.layout,
                    call.scheduled,
                    tuple((len(inputs) + k if k >= 0 else -1 - k, clip) for k, clip in args),
                )
                for key, call, args in zip(keys, self.calls, self.args, strict=True)
            ),
            len(inputs),
            wanted,
            all(tx.transposes for tx in self.txs),
        )
        wire = next((w for tx in self.txs if (w := getattr(tx, "exchange_dtype", None))), None)
        groups: dict[UnitGroup, list[tuple[int, Member]]] = {}
        for i in leaves:
            own = [[frame.cells[first + i] for first in call.slots] for call in self.calls]
            member = member_of(self.axes[i], mesh, [x[i] for x in inputs], self.txs, own)
            groups.setdefault(member.group, []).append((i, member))
        out: list[list[Any]] = [[None] * len(self.axes) for _ in wanted]
        for group, members in groups.items():
            for some in in_calls(group, members, mesh):
                owners = None if frame.params is None else [frame.params[m[0]] for m in some]
                plan = Plan(steps, group, tuple(m.leaf for _, m in some), mesh, wire)
                try:
                    arrays = [m.arrays for _, m in some]
                    results = self._run(plan, arrays, numbers, owners)
                except Exception as error:
                    first, last = (frame.low.paths[i] or "." for i in (some[0][0], some[-1][0]))
                    error.add_note(f"This is one of the matrices from `{first}` to `{last}`.")
                    raise
                for (i, member), new in zip(some, results, strict=True):
                    for k, x in enumerate(new[: len(wanted)]):
                        out[k][i] = x
                    self._keep(frame, i, new[len(wanted) :], member.shapes)
        for k, register in enumerate(out):
            frame.registers[self.results[wanted[k]]] = register

    def _wanted(self, low: Any) -> tuple[int, ...]:
        """The transformations whose results are read outside of this stage."""
        read = {low.result}
        for stage in low.stages:
            if stage is not self:
                read |= {getattr(stage, "source", -1), getattr(stage, "register", -1)}
                read |= {*getattr(stage, "sources", ())}
                for group in getattr(stage, "groups", ()):
                    read |= {*group.sources}
        found = tuple(k for k, register in enumerate(self.results) if register in read)
        return found or (len(self.results) - 1,)

    def _keep(self, frame: Any, i: int, states: list[Any], all_shapes: list[Any]) -> None:
        """Write the new state of a leaf to its cells."""
        place = 0
        for call, shapes in zip(self.calls, all_shapes, strict=True):
            parts = []
            for _ in shapes:
                parts.append(states[place : place + len(call.slots)])
                place += len(call.slots)
            for first, new in zip(call.slots, pack(parts), strict=True):
                frame.cells[first + i] = new

    def _run(self, plan: Plan, arrays: list[Any], numbers: list[Any], params: Any) -> Any:
        if AxisType.Manual in plan.mesh.axis_types:
            return exchanged_parts(plan, arrays, numbers)
        if all(tx.only_sums for tx in self.txs) and fits_in_place(plan):
            return in_place(plan, arrays, numbers)
        shared = all(tx.few_long_products or tx.only_sums for tx in self.txs)
        if shared and fits_long_axis(plan):
            return along_long_axis(plan, arrays, numbers, params)
        if plan.group.spec is None:
            return staged(plan, arrays, numbers, params)
        return exchanged(plan, arrays, numbers)


def _checked(mesh: Any) -> Any:
    """The mesh, unless its axes are of two kinds, on which JAX cannot exchange matrices."""
    kinds = set(mesh.axis_types)
    if {AxisType.Auto, AxisType.Explicit} <= kinds and AxisType.Manual not in kinds:
        named = ", ".join(
            f"{name}: {kind.name}"
            for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        )
        raise ValueError(
            f"The matrices lie on a mesh whose axes are of two kinds ({named}), and cannot be brought "
            "together there. Make a mesh with axes of one kind: `jax.make_mesh(shape, names, "
            f"axis_types=(jax.sharding.AxisType.Explicit,) * {len(mesh.axis_names)})`."
        )
    return mesh
