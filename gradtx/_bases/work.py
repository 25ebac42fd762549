"""What a basis computes for whole matrices of several leaves, wherever they are brought together.

A method of a basis reads some arrays of the state and changes some. Only these travel between devices.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._bases.arithmetic import (
    carried_parts,
    learned_parts,
    refreshed_parts,
    state_form,
    turned_parts,
)
from gradtx._bases.basis import Now
from gradtx._core.dtypes import cast_floating
from gradtx._core.leaf import Split
from gradtx._matrices.hops import Rows
from gradtx._matrices.units import UnitGroup


class Work(NamedTuple):
    """A method of a basis, as a part of a compiled function's cache key (`Plan.steps`).

    Attributes:
        key: the static part of the basis.
        method: "into", "back", "learn", "refresh", or "both" for the latter two.
        models: for every array of the state of one unit its shape `[blocks, ...]` and its dtype, one
            unequal part after the other.
        parts: the number of unequal parts.
        degrees: the degrees of the arrays of the inner state that come in behind the matrices.
        given: the numbers of the arrays of the state that come in.
        changed: the numbers of those that come back.
        random: whether seeds come in behind the state, one for each matrix.
    """

    key: Split
    method: str
    models: tuple[tuple[tuple[int, ...], Any], ...]
    parts: int
    degrees: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    random: bool = False

    @property
    def inputs(self) -> int:
        """How many arrays of matrices come in."""
        return 1 + len(self.degrees)

    @property
    def outputs(self) -> int:
        """How many arrays of matrices come back."""
        return 1 if self.method in ("into", "back") else len(self.degrees)

    @property
    def kept(self) -> tuple[int, ...]:
        """The places among the `given` arrays of the state of those that come back."""
        return tuple(self.given.index(k) for k in self.changed)

    def run(self, group: UnitGroup, arrays: list[Rows], numbers: list[Any]) -> list[Rows]:
        """The matrices and the arrays of the state that come back.

        Args:
            group: what the units have in common.
            arrays: the units, the arrays of the inner state, those of the state that are `given`, and
                the seeds; each `[batch, ...]`.
            numbers: the arrays of the basis, and the number of steps before this one.
        """
        own, step = numbers
        count, dtype = len(arrays[0]), arrays[0].dtype
        leaves = [group.axes.split_parts(x) for x in arrays[: self.inputs]]
        arrived = dict(zip(self.given, arrays[self.inputs :], strict=False))
        # The method reads none of the arrays of zeros.
        states = [
            arrived[k] if k in arrived else jnp.zeros((count, *shape), kind)
            for k, (shape, kind) in enumerate(self.models)
        ]
        flat = [x.reshape(count * x.shape[1], *x.shape[2:]) for x in states]
        states = cast_floating(flat, dtype)
        total = len(leaves[0][0])
        seeds = arrays[-1].reshape(-1) if self.random else jnp.zeros(total, jnp.uint32)
        out, new = self.computed(cast_floating(own, dtype), leaves, states, Now(step, seeds))
        units = [group.axes.join_parts(x, arrays[0].shape) for x in out]
        back = [(new[k], *self.models[k]) for k in self.changed]
        return [*units, *(x.reshape(count, *shape).astype(kind) for x, shape, kind in back)]

    def computed(
        self, own: list[Any], leaves: list[Any], states: list[Any], now: Now
    ) -> tuple[list[Any], list[Any]]:
        """What comes back, taken apart, and all arrays of the state.

        Args:
            own: the arrays of the basis.
            leaves: the parts of the matrices, and of the arrays of the inner state.
            states: the arrays of the state, one unequal part after the other.
            now: the present step.
        """
        basis, form = self.key.join(iter(own), iter(())), state_form(self.key.structure)
        each = form.num_leaves
        old = [form.unflatten(states[k * each : (k + 1) * each]) for k in range(self.parts)]
        if self.method in ("into", "back"):
            return [turned_parts(basis, self.method, leaves[0], old)], states
        nows, out = [now] * self.parts, []
        if self.method in ("learn", "both"):
            old = learned_parts(basis, leaves[0], old, nows)
        new = old
        if self.method in ("refresh", "both"):
            new = refreshed_parts(basis, leaves[0], old, nows)
            rows = zip(self.degrees, leaves[1:], strict=True)
            out = [carried_parts(basis, degree, parts, old, new) for degree, parts in rows]
        return out, jax.tree.leaves(new)


@functools.lru_cache(maxsize=1024)
def with_what_travels(work: Work, group: UnitGroup, own: tuple[Any, ...]) -> Work:
    """The same work, with the arrays of the state that its method reads or changes.

    Args:
        work: the work.
        group: what the units have in common.
        own: the arrays of the basis, as `jax.ShapeDtypeStruct`s.
    """
    unit = jax.ShapeDtypeStruct((1, *group.unit), group.dtype)
    parts = jax.eval_shape(group.axes.split_parts, unit)
    states = [
        jax.ShapeDtypeStruct(shape, group.dtype if jnp.issubdtype(kind, jnp.floating) else kind)
        for shape, kind in work.models
    ]
    seeds = jax.ShapeDtypeStruct((len(parts[0]),), jnp.uint32)
    now: Any = Now(jax.ShapeDtypeStruct((), jnp.int32), seeds)  # pyright: ignore
    arrays = list(own)
    args = arrays, [parts] * work.inputs, states, now
    program = jax.make_jaxpr(work.computed)(*args).jaxpr
    first = len(jax.tree.leaves(arrays)) + work.inputs * work.parts
    out = len(program.outvars) - len(states)
    # An array that is returned in its own place, and enters no operation, stays where it is.
    before, after = program.invars[first : first + len(states)], program.outvars[out:]
    moved = [new for new, old in zip(after, before, strict=True) if new is not old]
    used = {id(x) for equation in program.eqns for x in equation.invars}
    used |= {id(x) for x in (*program.outvars[:out], *moved)}
    changed = [k for k, (new, old) in enumerate(zip(after, before, strict=True)) if new is not old]
    given = [k for k, old in enumerate(before) if k in changed or id(old) in used]
    random = id(program.invars[-1]) in used
    return work._replace(given=tuple(given), changed=tuple(changed), random=random)
