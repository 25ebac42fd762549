"""Numbers whose value lies in the state: what stands for them while a transformation is lowered.

`tunable` puts a `Tuned` in the place of every number that it keeps in its state. A `Tuned` is a leaf of
the transformation, like the number was. Recipes hand it on to the transformations in their definition,
and may calculate with it. The stage `Tune` (`tune.py`) computes all of them at the start of a step, and
the other stages put the results in their places (`settled`).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar
from gradtx._core.numbers import Digits, Number
from gradtx._core.numerics import log

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "pow": operator.pow,
    "neg": operator.neg,
}


class Origin:
    """What the `Tuned`s of one `tunable` have in common: their numbers, and what is computed from them.

    Args:
        starts: the numbers before the first step: Python numbers, or arrays.
        place: how many `Tune`s come before in the same program.

    Attributes:
        values: every `Tuned` made from these numbers. A step computes all of them.
        intervals: for each number the intervals of the fields that it was passed to.
        constants: the arrays that occur in their expressions.
    """

    def __init__(self, starts: tuple[Any, ...], place: int) -> None:
        self.starts, self.place = starts, place
        self.values: list[Tuned] = []
        self.intervals: list[list[str]] = [[] for _ in starts]
        self.constants: list[Any] = []

    def number(self, i: int, *, decay: bool) -> "Tuned":
        """The `Tuned` of the number `i`."""
        return Tuned(self, ("number", i), self.starts[i], decay)

    def operand(self, x: Any) -> Any:
        """`x` as a part of an expression, which is hashable."""
        if isinstance(x, Tuned):
            return x.expression
        if isinstance(x, int | float):
            return ("literal", x)
        self.constants.append(x)
        return ("constant", len(self.constants) - 1)


class At(NamedTuple):
    """The place of a number among those that the `Tune`s of a program found.

    Attributes:
        origin: the number of the `Tune`.
        place: the row of the array that this `Tune` packed.
        decay: whether the number is a decay, see `Tuned`.
    """

    origin: int
    place: int
    decay: bool


NOT_KNOWN = (
    "A number that is `tunable` is not known when a transformation is lowered. Here a class compares "
    "the number, or passes it to a function, in `expand` or in `lower`. Use the operators `+ - * / **` "
    "there, or leave the number out: `tunable(inner, names)` keeps only the numbers that `names` lists."
)


class Tuned:
    """A number that lies in the state, or that is computed from such numbers.

    Args:
        origin: what it is computed from.
        expression: `("number", i)`, `("literal", x)`, `("constant", i)`, or the name of an operator
            followed by its operands.
        start: its value before the first step.
        decay: whether its complement and its logarithm are needed with all digits, see `Digits`.
    """

    def __init__(self, origin: Origin, expression: Any, start: Any, decay: bool = False) -> None:
        self.origin, self.expression, self.start, self.decay = origin, expression, start, decay
        self.place = len(origin.values)
        origin.values.append(self)

    @property
    def at(self) -> "At":
        """Where its value lies, as a part of a compiled function's cache key."""
        return At(self.origin.place, self.place, self.decay)

    def within(self, interval: str) -> "Tuned":
        """The same number as a field that is limited to `interval` holds it."""
        if self.expression[0] == "number":
            self.origin.intervals[self.expression[1]].append(interval)
        if self.decay or not is_decay(interval):
            return self
        return Tuned(self.origin, self.expression, self.start, True)

    def _unknown(self, *args: Any) -> Any:
        raise TypeError(NOT_KNOWN)

    __array__ = __float__ = __int__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown


_OPERANDS = Tuned, int, float, np.ndarray, np.generic, jax.Array


def _method(name: str, reflected: bool) -> Any:
    function = _OPERATORS[name]

    def method(self: Tuned, *others: Any) -> Any:
        if not all(isinstance(x, _OPERANDS) for x in others):
            return NotImplemented  # a transformation and a schedule have operators of their own
        operands = (*others, self) if reflected else (self, *others)
        starts = [x.start if isinstance(x, Tuned) else x for x in operands]
        expression = name, *map(self.origin.operand, operands)
        return Tuned(self.origin, expression, function(*starts))

    return method


for _name in _OPERATORS:
    setattr(Tuned, f"__{_name}__", _method(_name, False))
    if _name != "neg":
        setattr(Tuned, f"__r{_name}__", _method(_name, True))


def is_decay(interval: str) -> bool:
    """Whether an interval such as `"[0, 1)"` is that of a decay, which may lie close to 1."""
    return float(interval[1:-1].split(",")[1]) == 1


def holds_tuned(tx: Any) -> bool:
    """Whether a transformation, or a list of arrays, has a `Tuned` among its leaves."""
    return any(isinstance(x, Tuned) for x in jax.tree.leaves(tx))


def started(tx: Any) -> Any:
    """The transformation with the numbers that it has before the first step."""
    return jax.tree.map(lambda x: x.start if isinstance(x, Tuned) else x, tx)


def settled(arrays: list[Any], found: dict[Any, list[Any]]) -> list[Any]:
    """The list with the value of this step in the place of every `Tuned`.

    Args:
        arrays: arrays, among which there may be `Tuned`s.
        found: for each `Origin` the values of its `Tuned`s at this step.
    """
    return [found[x.origin][x.place] if isinstance(x, Tuned) else x for x in arrays]


def settled_tree(tree: Any, found: dict[Any, list[Any]]) -> Any:
    """The tree with the value of this step in the place of every `Tuned`; a decay is a `Number`."""
    leaves, structure = jax.tree.flatten(tree)
    new = [Number(*x) if isinstance(x, Digits) else x for x in settled(leaves, found)]
    return structure.unflatten(new)


def settled_tx(tx: Any, found: dict[Any, list[Any]]) -> Any:
    """The transformation with the values of this step, for a method that gets it as a whole.

    Its own numbers are arrays, since the method may do anything with them. In the transformations
    inside, a decay is a `Number`, which keeps its digits.
    """
    tx = settled_tree(tx, found)
    own = {name: getattr(tx, name) for name in tx._data}
    return tx._with(**{k: x.value for k, x in own.items() if isinstance(x, Number)})


class Formula(NamedTuple):
    """What a `Tuned` is computed from, as a part of a compiled function's cache key.

    Attributes:
        expression: the expression of the `Tuned`.
        decay: whether it is a decay.
        known: whether its value before the first step is a Python number.
    """

    expression: Any
    decay: bool
    known: bool


@functools.partial(jax.jit, static_argnums=0)
def evaluate(
    formulas: tuple[Formula, ...], numbers: list[Any], starts: list[Any], first: Any, constants: Any
) -> tuple[list[Any], Any]:
    """The values at one step: a scalar array for every formula, or `Digits` for a decay.

    The second result holds the same numbers as one array of shape [formulas, 3], since each argument
    of a compiled function costs time in an un-jitted step.

    As long as nobody has changed a number, its value is the Python number that it was made from,
    rounded after `1 - b` and `log b` were computed. So the trajectory is that of the transformation
    without `tunable`. Only a decay that was changed is known in the precision of the state alone.

    Args:
        formulas: what to compute.
        numbers: the numbers in the state.
        starts: the same numbers before the first step, or None for a number that was not known.
        first: the triples (`numbers.py`) of the values before the first step, shape [formulas, 3].
        constants: the arrays in the expressions.
    """
    kept = [None if s is None else x == s for x, s in zip(numbers, starts, strict=True)]

    def value(expression: Any) -> Any:
        kind, *operands = expression
        if kind == "number":
            return scalar(numbers[operands[0]])
        if kind == "literal":
            return operands[0]
        if kind == "constant":
            return constants[operands[0]]
        return _OPERATORS[kind](*map(value, operands))

    def same(expression: Any) -> Any:
        kind, *operands = expression
        if kind == "number":
            return kept[operands[0]]
        inside = () if kind in ("literal", "constant") else operands
        return functools.reduce(operator.and_, map(same, inside), np.True_)

    out: list[Any] = []
    for (expression, decay, known), start in zip(formulas, first, strict=True):
        x = scalar(value(expression))
        new = Digits(x, 1 - x, log(x)) if decay else x
        old = Digits(*start) if decay else start[0]
        if known:
            new = jax.tree.map(functools.partial(jnp.where, same(expression)), old, new)
        out.append(new)
    rows = [x if isinstance(x, Digits) else (x, x, x) for x in out]
    flat = [x for row in rows for x in row]  # nothing, if every number is a schedule
    return out, (jnp.stack(flat) if flat else jnp.zeros(0, scalar(0.0).dtype)).reshape(len(rows), 3)
