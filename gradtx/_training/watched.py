"""A step whose every stage is looked at: which one was the first to make a value that is not finite.

The transformation is lowered once more, with a probe behind every transformation inside of it, such as
taps use them (`probes.py`). A probe counts the entries that are not finite. A wrapper that calls its
inner transformation itself gets a copy of it that is watched in the same way.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.chain import chain
from gradtx._compose.fanout import fanout
from gradtx._compose.named_chain import named_chain
from gradtx._compose.partition import partition
from gradtx._core.foreign import foreign
from gradtx._core.measure import Measure
from gradtx._core.probes import Probe
from gradtx._core.program import Program
from gradtx._core.record import Record
from gradtx._core.stages import Frame
from gradtx._core.terms import Stream, Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import Structure
from gradtx._core.whole import Tree
from gradtx._wrappers.measures import nonfinite_count


class Stage(NamedTuple):
    """A stage that made a value that is not finite.

    Attributes:
        tx: the transformation.
        place: where it stands in the composition, such as `chain[1]/adamw/chain[0]`.
        path: the path of the first leaf that it made not finite.
        bad: how many entries of this leaf are not finite.
        nans: how many of them are NaN. If there are none, the stage made a number too large.
        size: how many entries this leaf has.
    """

    tx: Transform
    place: str
    path: str
    bad: int
    nans: int
    size: int


class _faults(Measure):
    """The number of entries that are not finite, and the number of those that are NaN."""

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        dtype = jnp.finfo(update.dtype).dtype
        return tuple(x.astype(dtype) for x in (~jnp.isfinite(update), jnp.isnan(update)))


class Search:
    """What was found in one step: `stage` is the first stage that made a value that is not finite."""

    stage: Stage | None = None

    def watched(self, tx: Transform, place: str = "") -> Transform:
        """A copy of a transformation whose steps are watched.

        Args:
            tx: the transformation.
            place: where it stands in the composition.
        """

        def program(leaves: list[Any], structure: Structure) -> _Program:
            return _Program(self, tx, place, leaves, structure)

        copy = tx._with()
        copy.__dict__["program"] = program
        return copy


class _Program(Program):
    """A program with a probe behind every transformation.

    Args:
        search: where to report what is found.
        tx: the transformation.
        place: where it stands in the composition.
        leaves: the parameters, or gradients in their place.
        structure: the structure of the tree of parameters.
    """

    def __init__(
        self, search: Search, tx: Transform, place: str, leaves: list[Any], structure: Structure
    ) -> None:
        self.search = search
        root = _Watch(None, [], [], place, [])
        self.log = root.log
        super().__init__(tx, leaves, structure, root)
        own = {id(probe) for _, probe in self.log}
        for i, stage in enumerate(self.stages):
            if isinstance(stage, Record):  # what its own probes count does not go into the state
                self.stages[i] = Record([x for x in stage.probes if id(x) not in own])
        places = {id(visit.tx): visit.place for visit, _ in self.log}
        for stage in self.stages:
            if isinstance(stage, Tree):
                stage.tx = self._watched_inside(stage.tx, places.get(id(stage.tx), place))

    def _watched_inside(self, tx: Transform, place: str) -> Transform:
        """A copy of a transformation of the whole tree, in which all that it may call is watched."""
        changes: dict[str, Any] = {}
        within = _joined(place, type(tx).__name__)
        for name in () if isinstance(tx, foreign) else tx._transforms:
            value = getattr(tx, name)
            if isinstance(value, Transform):
                changes[name] = self.search.watched(value, within)
        return tx._with(**changes) if changes else tx

    def is_parametrized(self, updates: list[Any]) -> bool:
        return False

    def _run(self, frame: Frame) -> None:
        given = [x for x in frame.registers[0] if x is not None]
        super()._run(frame)
        if self.search.stage is not None or any(count_of(x) for x in given):
            return  # it was found inside a wrapper, or was there before
        for visit, probe in self.log:
            for i, sums in sorted(frame.sums.get(probe, {}).items()):
                bad, nans = map(int, sums[0])
                if bad:
                    size = frame.registers[0][i].size
                    path = frame.low.paths[i]
                    self.search.stage = Stage(visit.tx, visit.place, path, bad, nans, size)
                    return


class _Watch(Visit):
    """A visit that puts a probe behind every transformation.

    Args:
        place: where the transformation stands in the composition.
        log: the visits and their probes so far, in the order in which updates pass through them.
    """

    watches = True

    def __init__(
        self, tx: Any, stream: Stream, inside: list[Visit], place: str, log: list[Any]
    ) -> None:
        super().__init__(tx, stream, inside)
        self.place, self.log = place, log

    def below(self, tx: Any, stream: Stream) -> Visit:
        place = self.place if self.tx is None else _joined(self.place, self._step())
        self.inside.append(_Watch(tx, stream, [], place, self.log))
        return self.inside[-1]

    def _step(self) -> str:
        """The name of this composition, and which of its parts is lowered next."""
        number = len(self.inside)
        match self.tx:
            case partition():
                key = repr(list(self.tx.transforms)[number])
            case named_chain():
                key = repr(self.tx.names[number])
            case chain() | fanout():
                key = str(number)
            case _:
                return type(self.tx).__name__
        return f"{type(self.tx).__name__}[{key}]"

    def left(self, low: Any, stream: Stream) -> None:
        probe = Probe(low, stream, "", (_faults(per="leaf"),), None)
        low.probes.append(probe)
        self.log.append((self, probe))


def _joined(place: str, step: str) -> str:
    return f"{place}/{step}" if place else step


def count_of(x: Any) -> int:
    """The number of entries of an array that are not finite."""
    return int(nonfinite_count().entries(x, None, x).sum())
