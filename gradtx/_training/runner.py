"""Running the trainings of one group: how many at a time, and on which devices."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gradtx._training.members import Group

_AXIS = "sweep"
_SHARE_OF_FREE_MEMORY = 0.8


class Runner:
    """Compiles the training of a group once, and runs it for all members.

    `size` trainings run at the same time on each device. If that is one, the training is compiled by
    itself and not mapped, so that its result is the same as that of a single training, bit for bit.

    The last call is filled up with copies of its last member, whose results are dropped. So all calls
    have the same shapes and share one compiled program.
    """

    def __init__(
        self,
        body: Callable[[Any, Any, Any], Any],
        group: Group,
        arrays: list[Any],
        chunk: int | None,
        memory: float | None,
        devices: Sequence[Any] | None,
    ) -> None:
        self.body, self.group, self.arrays = body, group, arrays
        self.mesh = None
        self.count = len(devices) if devices else 1
        if devices:
            self.mesh = Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))
            everywhere = NamedSharding(self.mesh, PartitionSpec())
            self.arrays = [jax.device_put(x, everywhere) for x in arrays]
        most = -(-len(group.members) // self.count)
        device = devices[0] if devices else next(iter(jnp.zeros(()).devices()))
        if chunk is None and memory is None and device.platform == "cpu":
            # A CPU is busy with one training. Larger batches leave its caches, and a convolution whose
            # kernels differ within a batch is computed several times more slowly.
            chunk = 1
        self.size = min(chunk or most, most)
        self.program = self._compiled()
        if chunk is None:
            self._fit(_free_bytes(device) if memory is None else memory)

    def outcomes(self) -> Iterator[tuple[tuple[int, int], Any]]:
        """Every member with what its training returned."""
        members, at_once = self.group.members, self.size * self.count
        for start in range(0, len(members), at_once):
            some = members[start : start + at_once]
            outcome = jax.tree.map(_on_host, self.program(*self._inputs(some)))
            if self._is_single:
                yield some[0], outcome
                continue
            for i, member in enumerate(some):
                yield member, jax.tree.map(lambda x, i=i: x[i], outcome)

    @property
    def _is_single(self) -> bool:
        return self.size == 1 and not self.mesh

    def _inputs(self, members: list[tuple[int, int]]) -> tuple[Any, ...]:
        """The arguments of the program for some members, filled up to the size of the program."""
        if self._is_single:
            row, column = members[0]
            return self.group.numbers(row), self.group.key(column), self.arrays
        full = members + [members[-1]] * (self.size * self.count - len(members))
        return np.arange(len(full)), *self.group.batch(full), self.arrays

    def _compiled(self) -> Any:
        def one(numbers: list[Any], key: Any, arrays: list[Any]) -> Any:
            return self.body(self.group.tx(numbers), key, arrays)

        def several(indices: jax.Array, numbers: list[Any], keys: Any, arrays: list[Any]) -> Any:
            # Numbers and keys may be the same for all members, so the indices say how many there are.
            axes = [0 if varies else None for varies in self.group.varies]

            def member(index: jax.Array, numbers: list[Any], key: Any, arrays: list[Any]) -> Any:
                return one(numbers, key, arrays)

            return jax.vmap(member, in_axes=(0, axes, 0, None))(indices, numbers, keys, arrays)

        def alone(indices: jax.Array, numbers: list[Any], keys: Any, arrays: list[Any]) -> Any:
            pairs = zip(numbers, self.group.varies, strict=True)
            mine = [x[0] if varies else x for x, varies in pairs]
            outcome = one(mine, None if keys is None else keys[0], arrays)
            return jax.tree.map(lambda x: jnp.asarray(x)[None], outcome)

        program = one
        if not self._is_single:
            program = alone if self.size == 1 else several
        if self.mesh:
            split, whole = PartitionSpec(_AXIS), PartitionSpec()
            numbers = [split if varies else whole for varies in self.group.varies]
            program = jax.shard_map(
                program,
                mesh=self.mesh,
                in_specs=(split, numbers, split, whole),
                out_specs=split,
                # A loop of `train` may begin with constants, which do not differ between devices.
                check_vma=False,
            )
        try:
            inputs = self._inputs(self.group.members[:1])
            return jax.jit(program).lower(*inputs).compile()
        except Exception as error:
            row = next(iter(self.group.leaves))
            tx = self.group.structure.unflatten(self.group.leaves[row])
            error.add_note(f"This happened when `sweep` compiled the training with {tx!r}.")
            raise

    def _fit(self, budget: float) -> None:
        """Compile for fewer members at a time until the program fits into the memory."""
        while self.size > 1 and (needed := _bytes(self.program)) > budget:
            fewer = max(1, min(self.size - 1, int(self.size * budget / needed)))
            # As many calls as are needed, all of nearly the same size, so that little is filled up.
            calls = -(-len(self.group.members) // (fewer * self.count))
            self.size = -(-len(self.group.members) // (calls * self.count))
            self.program = self._compiled()


def _on_host(x: jax.Array) -> Any:
    # The keys of random numbers exist in JAX only.
    return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else np.asarray(x)


def _bytes(program: Any) -> float:
    """The memory that a compiled program takes on each device, or 0 where the compiler does not say."""
    used = program.memory_analysis()
    if used is None:
        return 0.0
    whole = used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes
    return float(whole - used.alias_size_in_bytes)


def _free_bytes(device: Any) -> float:
    """The memory of a device that a sweep may take, or infinity where the device does not say."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return float("inf")
    return _SHARE_OF_FREE_MEMORY * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
