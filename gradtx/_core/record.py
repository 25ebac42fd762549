"""`Record`, the stage that turns the sums of all taps into readings at the end of a step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import cast, scalar_dtype
from gradtx._core.leaf import Split, split
from gradtx._core.numerics import shard_axes
from gradtx._core.passes import Pass
from gradtx._core.probes import Job, Probe, groups_of
from gradtx._core.sharding import replacing
from gradtx._core.terms import Stream
from gradtx._core.tuned import settled


class Record:
    """The stage that turns the sums of all probes into readings."""

    def __init__(self, probes: list[Probe]) -> None:
        self.probes = [probe for probe in probes if not probe.is_open]
        self.jobs = [
            (probe, job, *split(job.measure)) for probe in self.probes for job in probe.jobs
        ]

    def run(self, frame: Any) -> None:
        static, inputs = [], []
        for probe, job, key, arrays in self.jobs:
            sums = frame.sums.get(probe, {})
            found = [sums[i][job.place] for i in job.leaves if i in sums]
            extra = {name: self._extra(job, name, frame.extra) for name in job.measure.extra_args}
            memory = ()
            if probe.memory >= 0:
                memory = frame.cells[probe.memory][probe.jobs.index(job)]
            old = frame.cells[probe.readings][job.name]
            static.append((key, probe.axis_name))
            inputs.append((settled(arrays, frame.found), found, memory, old, extra))
        record = _record if frame.parametrized else _record_jitted
        results = iter(record(tuple(static), inputs))
        for probe in self.probes:
            new = [next(results) for _ in probe.jobs]
            names = [job.name for job in probe.jobs]
            frame.cells[probe.readings] = {n: x for n, (x, _) in zip(names, new, strict=True)}
            if probe.memory >= 0:
                frame.cells[probe.memory] = tuple(memory for _, memory in new)

    @staticmethod
    def _extra(job: Job, name: str, given: dict[str, Any]) -> Any:
        if name not in given:
            raise ValueError(
                f"The tap that records `{job.name}` needs the argument `{name}`: call "
                f"`update(updates, state, params, {name}=...)`."
            )
        return given[name]


def _record(static: tuple[tuple[Split, Any], ...], inputs: Any) -> list[Any]:
    results = []
    for (key, axis_name), (arrays, found, memory, old, extra) in zip(static, inputs, strict=True):
        if not found:  # none of its leaves has a gradient in this step
            results.append((old, memory))
            continue
        sums = [_total([x[k] for x in found], axis_name) for k in range(len(found[0]))]
        measure = key.join(iter(arrays), iter(()))
        new, remembered = measure.step(tuple(sums), memory, extra)
        results.append((_like(new, old), tuple(map(_like, remembered, memory))))
    return results


_record_jitted = functools.partial(jax.jit, static_argnums=0)(_record)


def _like(new: Any, old: jax.Array) -> jax.Array:
    return replacing(old, cast(jnp.asarray(new), old.dtype))


def _total(parts: list[jax.Array], axis_name: Any) -> jax.Array:
    """The sum of scalars, one per leaf, also over the mesh axes over which they are sharded."""
    kinds: dict[Any, list[jax.Array]] = {}
    for x in parts:
        kinds.setdefault(shard_axes(x, axis_name), []).append(cast(x, scalar_dtype()))
    totals = []
    for axes, own in kinds.items():
        total = functools.reduce(jnp.add, own)
        totals.append(jax.lax.psum(total, axes) if axes else total)
    return functools.reduce(jnp.add, totals)


def finish(low: Any) -> None:
    """Append what is left at the end of a lowering: probes that no pass computes, and the recording."""
    if not low.probes:
        return
    # What a tap sees may not reach the result, for example in front of `constant`.
    while any(any(probe.waiting) for probe in low.probes):
        stream: Stream = [None] * len(low.leaves)
        for probe in low.probes:
            for i, term in enumerate(probe.waiting):
                stream[i] = stream[i] if term is None else term.args[0]
        low.flush_begins()
        low.stages.append(Pass(low.register(), groups_of(stream, low.probes)))
    low.trees += low.probes
    low.stages.append(Record(low.probes))
