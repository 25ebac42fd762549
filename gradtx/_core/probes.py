"""Probes: how taps read updates without an additional pass over them.

A tap does not change the stream. It appends a *probe* to the lowering: for every leaf a term whose
result is not an update but a list of summands. The pass that computes the term of the tapped update, for
whatever transformation comes next, also computes the summands and sums them up. At the end of the step,
`Record` (`record.py`) turns the sums of all leaves into readings, and writes these into the state.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import Missing, raise_for_placeholder
from gradtx._core.dtypes import promote, scalar_dtype
from gradtx._core.measure import Measure
from gradtx._core.passes import Group
from gradtx._core.places import Cell
from gradtx._core.sharding import varying_axes, varying_like
from gradtx._core.terms import Stream, Term, group_of
from gradtx._core.values import Value


class TapState(NamedTuple):
    """The state of a tap.

    Attributes:
        readings: a dictionary with the scalars of the last step, by their names. Before the first step
            they are 0.
        memory: what measures remember from one step to the next. Most remember nothing.
    """

    readings: Any
    memory: Any = ()


class _probe(Value):
    """The instruction that computes the summands of several measures for one leaf."""

    measures: tuple[Measure | None, ...]

    def apply_leaf(self, args: list[Any], state: Any, param: Any, from_begin: Any) -> Any:
        dtype = promote(args[0].dtype, scalar_dtype())
        update, gradient = (jax.lax.stop_gradient(x.astype(dtype)) for x in args)
        found = []
        for measure in self.measures:
            own: Any = Missing(measure) if param is None else param
            own = own if param is None else jax.lax.stop_gradient(param.astype(dtype))
            try:
                made = () if measure is None else measure.entries(update, own, gradient)
            except (TypeError, ValueError) as error:
                raise_for_placeholder(error, own)
                raise
            made = made if isinstance(made, tuple) else (made,)
            found.append(tuple(varying_like(jnp.asarray(x), update) for x in made))
        return tuple(found), state


class Job(NamedTuple):
    """One reading: the measure with its place among those of the tap, the name, and the leaves."""

    measure: Any
    place: int
    name: str
    leaves: list[int]


class Probe:
    """The measures of one tap.

    Args:
        low: the lowering in progress.
        stream: the stream at the tap.
        name: the name of the tap.
        measures: what is measured.
        axis_name: the mesh axes over which sums are taken, or None.

    Attributes:
        state: the state of the tap, with places for its arrays.
        waiting: for each leaf the term of its probe, or None if a pass computes it already.
    """

    def __init__(
        self, low: Any, stream: Stream, name: str, measures: tuple[Measure, ...], axis_name: Any
    ) -> None:
        self.axis_name = axis_name
        self.owned = [i for i, term in enumerate(stream) if term is not None]
        variants: list[Any] = [None] * len(stream)
        jobs: dict[str, Job] = {}
        for k, measure in enumerate(measures):
            self._add(jobs, Job(measure, k, f"{name}/{measure.label}", []), measure.per == "tree")
        for i in self.owned:
            path, leaf = low.paths[i], low.leaves[i]
            here = tuple(measure.at_leaf(path, leaf) for measure in measures)
            variants[i] = low.interned(_probe(here))
            for k, measure in enumerate(measures):
                if here[k] is not None:
                    group = measure.group(path)
                    full = f"{name}/{measure.label}" + (f"/{group}" if group else "")
                    self._add(jobs, Job(measure, k, full, []), True).leaves.append(i)
        # Optax's `tree.map_params` asks for a state of a tree without leaves, for which the names of
        # layers and leaves are not known. A single array stands for the dictionary there.
        self.is_open = not low.leaves and any(measure.per != "tree" for measure in measures)
        self.jobs = sorted(jobs.values(), key=lambda job: job.name)
        self.waiting = low.apply(None, variants, stream, low.gradients)
        self.readings, self.memory = low.cell(), -1
        if any(measure.initial() for measure in measures):
            self.memory = low.cell()
        self.state = TapState(Cell(self.readings), Cell(self.memory) if self.memory >= 0 else ())

    @staticmethod
    def _add(jobs: dict[str, Job], job: Job, wanted: bool) -> Job:
        known = jobs.setdefault(job.name, job) if wanted else job
        if known.place != job.place:
            raise ValueError(
                f"Two measures of one tap would both record `{job.name}`. Keep one of them, or give "
                "each a tap of its own."
            )
        return known

    def init(self, cells: list[Any], params: list[Any], absent: Any, structure: Any) -> None:
        """Fill its cells before the first step."""
        summed = self.axis_name if isinstance(self.axis_name, tuple) else (self.axis_name,)

        def fresh(job: Job, x: float = 0.0) -> jax.Array:
            # Inside `shard_map`, a reading varies over the mesh axes over which its leaves vary.
            axes = {a for i in job.leaves for a in varying_axes(params[i])} - {*summed}
            made = jnp.full((), x, scalar_dtype())
            return jax.lax.pcast(made, tuple(sorted(axes, key=str)), to="varying") if axes else made

        named = {job.name: fresh(job) for job in self.jobs}
        cells[self.readings] = jnp.zeros((), scalar_dtype()) if self.is_open else named
        if self.memory >= 0:
            cells[self.memory] = tuple(
                tuple(fresh(job, x) for x in job.measure.initial()) for job in self.jobs
            )


def groups_of(stream: Stream, probes: list[Probe]) -> list[Group]:
    """The groups of leaves whose programs compute a stream, and the probes of what it is made of."""
    found: dict[Any, list[int]] = {}
    inside: dict[Term, set[Term]] = {}
    for i, term in enumerate(stream):
        if term is None:
            continue
        own = []
        for probe in probes:
            wanted = probe.waiting[i]
            if wanted is not None and wanted.args[0] in _within(term, inside):
                own.append((probe, wanted))
                probe.waiting[i] = None
        found.setdefault((term, *own), []).append(i)
    return [_group(term, own, leaves) for (term, *own), leaves in found.items()]


def _group(term: Term, own: list[Any], leaves: list[int]) -> Group:
    group = group_of(term, leaves, tuple(wanted for _, wanted in own))
    group.probes = [probe for probe, _ in own]
    return group


def _within(term: Term, known: dict[Term, set[Term]]) -> set[Term]:
    """The terms that a term is made of, itself included."""
    if term not in known:
        found, waiting = {term}, [term]
        while waiting:
            new = [arg for arg in waiting.pop().args if arg not in found]
            found.update(new)
            waiting += new
        known[term] = found
    return known[term]
