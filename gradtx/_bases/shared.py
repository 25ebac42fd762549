"""The bases of several leaves on a mesh, whose devices share the work on them.

Leaves of one shape and layout are brought together as matrices are (`exchange.py` and `staged.py` in the
folder of matrices): after an exchange every device has some whole matrices with the state of their
bases, does for them what a method of the basis says (`work.py`), and sends back what is new. Devices
that hold the same matrices share a refresh, which takes long. They all compute the products with a
basis, which takes less long than to send the results.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradtx._bases.arithmetic import as_before
from gradtx._bases.basis import Basis, seeds_of_matrices
from gradtx._bases.layout import states_of_unit
from gradtx._bases.leaf import BasisLeaf
from gradtx._bases.work import Work, with_what_travels
from gradtx._core.branches import choose
from gradtx._core.dtypes import compute_dtype
from gradtx._core.sharding import is_explicit, mesh_axes, mesh_of
from gradtx._matrices.exchange import exchanged
from gradtx._matrices.members import Member, in_calls, known_axes
from gradtx._matrices.parts import pack, unpack
from gradtx._matrices.plans import Plan
from gradtx._matrices.staged import sharded_alike, staged
from gradtx._matrices.units import UnitGroup, UnitLeaf


class SharedLeaves:
    """The bases of leaves of one shape and layout.

    In all methods, `some` are the places of the leaves that take part, and every other list has one
    entry for each of them.

    Args:
        basis: the basis, with numbers in place of its schedules.
        leaves: the bases of the leaves, by place.
        layouts: how the leaves lie, by place.
        group: what the leaves have in common.
        mesh: the mesh.
        owners: the parameters, by place, or None.
    """

    def __init__(
        self,
        basis: Basis,
        leaves: dict[int, BasisLeaf],
        layouts: dict[int, UnitLeaf],
        group: UnitGroup,
        mesh: Any,
        owners: Any,
    ) -> None:
        self.basis, self.leaves, self.layouts = basis, leaves, layouts
        self.group, self.mesh, self.owners = group, mesh, owners
        self.one = next(iter(leaves.values()))

    @property
    def turns(self) -> bool:
        """Whether the devices share the change to the basis, which keeps the size of matrices."""
        return self.one.shape_inside == self.one.shape

    def turned(
        self, method: str, some: Sequence[int], xs: list[Any], states: list[list[Any]]
    ) -> list[Any]:
        """The leaves in the basis, or back from it; `method` is "into" or "back"."""
        work = self._work(method, self.leaves[some[0]], states[0])
        return [out for (out,), _ in self._done(work, some, [[x] for x in xs], states)]

    def learn(
        self,
        some: Sequence[int],
        gradients: list[Any],
        states: list[list[Any]],
        step: Any,
        seeds: list[Any],
        moments: list[list[Any]],
        degrees: tuple[int, ...],
    ) -> tuple[list[list[Any]], list[list[Any]]]:
        """The states after the gradients, and the arrays of the inner state in the new bases.

        The arguments are those of `BasisLeaf.learn`, for several leaves.
        """
        due = self.basis.due(step)
        turned = self.turns or not degrees

        def taught(method: str, states: Any) -> tuple[list[list[Any]], list[list[Any]]]:
            carried = degrees if turned and method != "learn" else ()
            work = self._work(method, self.leaves[some[0]], states[0], carried)
            rows = zip(gradients, moments, strict=True)
            inputs = [[g, *(own if carried else ())] for g, own in rows]
            done = self._done(work, some, inputs, states, step, seeds)
            new = [as_before(own, old) for (_, own), old in zip(done, states, strict=True)]
            if method == "learn":
                return new, moments
            if not turned:
                return new, self._carried(some, states, new, moments, degrees)
            return new, [as_before(own, old) for (own, _), old in zip(done, moments, strict=True)]

        if due is True and turned:
            return taught("both", states)
        if self.changes("learn", self.leaves[some[0]], states[0]):
            states, _ = taught("learn", states)
        new = choose(due, lambda: taught("refresh", states), lambda: (states, moments))
        if self.group.spec is not None:
            return new
        # The compiler may shard what a branch returns as it pleases.
        alike = functools.partial(sharded_alike, self.mesh, stack=True)
        return jax.tree.map(alike, new, (states, moments))

    def changes(self, method: str, leaf: BasisLeaf, state: list[Any]) -> bool:
        """Whether a method changes an array of the state, here of one of the leaves."""
        return bool(self._work(method, leaf, state).changed)

    def _carried(
        self, some: Any, old: Any, new: Any, moments: Any, degrees: tuple[int, ...]
    ) -> list[list[Any]]:
        """The arrays of the inner state in the new bases, where these have another size."""
        return [
            [self.leaves[i].carry(y, d, a, b) for y, d in zip(own, degrees, strict=True)]
            for i, a, b, own in zip(some, old, new, moments, strict=True)
        ]

    def _work(
        self, method: str, leaf: BasisLeaf, state: list[Any], degrees: tuple[int, ...] = ()
    ) -> Work:
        """The work of a method, with the arrays of the state that it reads or changes."""
        parts = jax.eval_shape(lambda own: unpack(own, leaf.state_shapes), state)
        arrays = [x for part in parts for x in part]
        models = states_of_unit(arrays, leaf.parts[0][0] // self._blocks)
        work = Work(self.one.key, method, models, len(parts), degrees)
        own = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), self.one.arrays
        )
        return with_what_travels(work, self.group._replace(states=()), tuple(own))

    def _everywhere(self, x: Any) -> Any:
        """An array of the state on all devices of an Auto mesh, also outside of `jit`."""
        if is_explicit(self.mesh):
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec()))

    @property
    def _blocks(self) -> int:
        """The number of equal projections that are fused in one unit."""
        blocks = self.group.axes.blocks
        return blocks if isinstance(blocks, int) else 1

    def _done(
        self,
        work: Work,
        some: Sequence[int],
        inputs: list[list[Any]],
        states: list[list[Any]],
        step: Any = 0,
        seeds: Any = None,
    ) -> list[tuple[list[Any], list[Any]]]:
        """What comes back for every leaf, and its state."""
        if not work.outputs and not work.changed:
            return [([], own) for own in states]
        rows = [(self.leaves[i], own) for i, own in zip(some, states, strict=True)]
        flat = [[x for part in unpack(own, leaf.state_shapes) for x in part] for leaf, own in rows]
        arriving = [work.models[i] for i in work.given]
        arriving += [((self._blocks,), "uint32")] if work.random else []
        group = self.group._replace(states=tuple(arriving))
        members = []
        for k, (i, xs, own) in enumerate(zip(some, inputs, flat, strict=True)):
            arrays = [x.astype(self.group.dtype) for x in xs] + [own[i] for i in work.given]
            if work.random:
                arrays.append(seeds_of_matrices(seeds[k], self.leaves[i].parts[0][0]))
            members.append((k, Member(group, self.layouts[i], arrays, [])))
        numbers = [self.one.arrays, jnp.asarray(step, jnp.int32)]
        results: list[Any] = [None] * len(members)
        for call in in_calls(group, members, self.mesh):
            layouts, arrays = tuple(m.leaf for _, m in call), [m.arrays for _, m in call]
            refreshes = work.method in ("refresh", "both")
            plan = Plan(work, group, layouts, self.mesh, replicas=refreshes)
            if group.spec is None:
                owners = None if self.owners is None else [self.owners[some[k]] for k, _ in call]
                new = staged(plan, arrays, numbers, owners)
            else:
                new = exchanged(plan, arrays, numbers)
            for (k, _), x in zip(call, new, strict=True):
                results[k] = x
        done = []
        for own, new in zip(flat, results, strict=True):
            for i, x in zip(work.changed, new[work.outputs :], strict=True):
                own[i] = x
            each = len(own) // work.parts
            parts = [own[p * each : (p + 1) * each] for p in range(work.parts)]
            packed = pack(parts)
            if len(parts) > 1:  # These are not sharded (`layout.py`).
                packed = [self._everywhere(x) for x in packed]
            done.append((new[: work.outputs], packed))
        return done


def shared_leaves(
    basis: Basis, leaves: list[BasisLeaf | None], given: list[Any], states: Any, params: Any
) -> list[SharedLeaves]:
    """The leaves whose bases the devices of a mesh share; there are none on one device.

    Inside `shard_map`, a leaf is what the device holds. The bases of complex matrices are not shared.

    Args:
        basis: the basis, with numbers in place of its schedules.
        leaves: the basis of every leaf, or None.
        given: the gradient of every leaf, or None.
        states: for every leaf the arrays of the state of its basis.
        params: the parameters, or None.
    """
    mesh = mesh_of([*given, *(params or ())])
    if mesh is None or len({*mesh.axis_types} & {AxisType.Auto, AxisType.Explicit}) != 1:
        return []
    found: dict[Any, tuple[dict[int, BasisLeaf], dict[int, UnitLeaf]]] = {}
    for i, (leaf, x) in enumerate(zip(leaves, given, strict=True)):
        if leaf is None or x is None or not x.size or jnp.iscomplexobj(x):
            continue
        spec = mesh_axes(x) or known_axes(leaf.axes, leaf.shape, mesh)
        arrays = [y for part in unpack(states[i], leaf.state_shapes) for y in part]
        group, layout = leaf.layout(spec, compute_dtype(x), arrays, dict(mesh.shape))
        members = found.setdefault((group, leaf.shape_inside == leaf.shape), ({}, {}))
        members[0][i], members[1][i] = leaf, layout
    return [
        SharedLeaves(basis, some, layouts, group, mesh, params)
        for (group, _), (some, layouts) in found.items()
    ]
