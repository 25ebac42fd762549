"""The hyperparameters inside a transformation: where they are, and what they are called."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gradtx._core.static import frozendict
from gradtx._core.transform import Transform
from gradtx._core.tuned import is_decay
from gradtx._core.values import Value

Path = tuple[str, ...]


class Name(str):
    """The name of a number in a state of `tunable`, which knows where the number has to lie.

    It is a key of a dictionary, which JAX hands on with the structure of the state. So `set` knows the
    intervals wherever the state goes. The key equals the plain text, and is pickled as plain text.

    Attributes:
        intervals: the intervals, such as `"[0, 1)"`.
    """

    intervals: tuple[str, ...]

    def __new__(cls, text: str, intervals: Iterable[str]) -> "Name":
        self = super().__new__(cls, text)
        self.intervals = tuple(dict.fromkeys(intervals))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


class Found(NamedTuple):
    """A hyperparameter inside a transformation.

    Attributes:
        path: the fields, labels and positions that lead to it.
        field: the index, in `path`, of the field of the transformation that has the hyperparameter. More
            steps follow for a number inside of a schedule.
        value: the number, array or schedule.
        interval: the interval to which the field that has it is limited, or an empty string.
    """

    path: Path
    field: int
    value: Any
    interval: str

    @property
    def decay(self) -> bool:
        """Whether it is a decay, which is limited to an interval that ends at 1."""
        return bool(self.interval) and is_decay(self.interval)

    @property
    def is_schedule(self) -> bool:
        """Whether it is a schedule, and not a number."""
        return callable(self.value)

    def names(self) -> list[str]:
        """What it may be called, from the shortest name to the longest."""
        inside = self.path[self.field + 1 :]
        names = [(self.path[self.field], *inside[-1:])] + [self.path[self.field :]] * bool(inside)
        names += [self.path[i:] for i in reversed(range(self.field))]
        return [".".join(name) for name in names]

    def fits(self, name: str) -> bool:
        """Whether a name as in `gradtx.replace` means this hyperparameter, or the schedule around it."""
        return _ends(self.path, name) or _ends(self.path[: self.field + 1], name)


def _ends(path: Path, name: str) -> bool:
    """Whether a dotted name ends where a path ends, and has only steps of the path, in order."""
    *narrow, last = name.split(".")
    steps = iter(path[:-1])
    return path[-1] == last and all(any(step == want for step in steps) for want in narrow)


def find(tx: Any, skip: type, path: Path = ()) -> Iterator[Found]:
    """The hyperparameters of a transformation and of the transformations inside it.

    Left out are the initial values of states, which have no effect after `init`, and transformations of
    the class `skip`.
    """
    if isinstance(tx, skip):
        return
    if not isinstance(tx, Transform):
        for name, child in _items(tx):
            yield from find(child, skip, (*path, name))
        return
    for name in tx._data:
        value, here = getattr(tx, name), (*path, name)
        if name in tx._transforms:
            yield from find(value, skip, here)
        elif name in tx._numbers and value is not None and not name.startswith("initial"):
            yield Found(here, len(path), value, tx.limits.get(name, ""))
            if callable(value):
                yield from _inside(value, len(path), here)


def _inside(schedule: Any, field: int, path: Path) -> Iterator[Found]:
    """The numbers inside of a schedule that is a value."""
    for name, child in _items(schedule):
        here = (*path, name)
        if isinstance(child, float) or hasattr(child, "dtype"):
            limits = schedule.limits if isinstance(schedule, Value) else {}
            yield Found(here, field, child, limits.get(name, ""))
        else:
            yield from _inside(child, field, here)


def _items(node: Any) -> list[tuple[str, Any]]:
    """The parts of a value, a dictionary or a tuple, with their names."""
    if isinstance(node, Value):
        return [(name, getattr(node, name)) for name in node._data]
    if isinstance(node, dict):
        return [(str(key), x) for key, x in node.items()]
    return [(str(i), x) for i, x in enumerate(node)] if type(node) is tuple else []


def named(found: list[Found]) -> dict[str, Found]:
    """The hyperparameters by their names, each the shortest that means no other one."""
    names: dict[str, Found] = {}
    for x in found:
        choices = x.names()
        for name in choices:
            if sum(_ends(y.path, name) for y in found) == 1:
                break
        else:  # the path of one hyperparameter is a part of another's
            name = choices[-1]
        names[name] = x
    return names


def substituted(node: Any, new: dict[Path, Any], path: Path = ()) -> Any:
    """A copy of a transformation in which the parts at some paths are replaced, without validation."""
    if path in new:
        return new[path]
    parts = dict(_items(node))
    changed = {name: substituted(x, new, (*path, name)) for name, x in parts.items()}
    if all(changed[name] is x for name, x in parts.items()):
        return node
    if isinstance(node, Value):
        return node._with(**changed)
    if isinstance(node, dict):
        return frozendict(zip(node, changed.values(), strict=True))
    return tuple(changed.values())


def part_at(node: Any, path: Path) -> Any:
    """The part of a transformation at a path."""
    for name in path:
        node = dict(_items(node))[name]
    return node
