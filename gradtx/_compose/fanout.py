"""Parallel composition: `fanout`, whose branches see the same gradients, and the operators for it."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._compose.combination import check_combination
from gradtx._compose.iterates import check_around
from gradtx._core.authors import described
from gradtx._core.dtypes import real_dtype
from gradtx._core.foreign import Inside, as_transform
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.lowering import Lowering
from gradtx._core.numerics import filled_like
from gradtx._core.quotients import arctan2, divide
from gradtx._core.static import show
from gradtx._core.terms import SQUARABLE, Stream
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper, Value


class constant(Elementwise):
    """Replace every entry of the gradients by the same number, $u = c$.

    `fanout` and the operators turn a number, such as epsilon in `rms() + 1e-8`, into a `constant`.

    Args:
        value: the number $c$; it may also be a scalar array or a schedule.

    Raises:
        TypeError: if `value` is not a number, an array or a schedule.
    """

    value: Hyper
    linear = True
    ignores_updates = True

    @property
    def least(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.value if isinstance(self.value, float) else None

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        value = jnp.asarray(self.value).astype(real_dtype(update.dtype))
        return filled_like(update, value), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.number(self.value)


Branch: TypeAlias = optax.GradientTransformation | Hyper
Combine: TypeAlias = (
    Literal["add", "subtract", "multiply", "divide", "maximum", "minimum", "arctan2"]
    | Callable[..., Any]
)

_COMBINE: dict[str, Callable[..., Any]] = {
    "add": lambda *xs: sum(xs[1:], xs[0]),
    "subtract": lambda a, b: a - b,
    "multiply": lambda *xs: jax.tree.reduce(jnp.multiply, xs),
    "divide": divide,
    "arctan2": arctan2,
    "maximum": lambda *xs: jax.tree.reduce(jnp.maximum, xs),
    "minimum": lambda *xs: jax.tree.reduce(jnp.minimum, xs),
}
# The sign of an operator, and how tightly it binds.
_SIGN = {"add": ("+", 1), "subtract": ("-", 1), "multiply": ("*", 2), "divide": ("/", 2)}


class _combine(Value):
    """The instruction that combines the updates of all branches of one leaf into one update."""

    how: Any

    def apply_leaf(self, args: list[jax.Array], state: Any, param: Any, from_begin: Any) -> Any:
        function = _COMBINE[self.how] if isinstance(self.how, str) else self.how
        update = function(*args)
        if jnp.shape(update) != args[0].shape:
            name = getattr(function, "__name__", function)
            raise ValueError(
                f"`fanout(combine={name})` returned an array of shape {jnp.shape(update)} from "
                f"updates of shape {args[0].shape}. Return an update of the same shape."
            )
        return update, state


# The instructions of the words above, which are made once and not for every optimizer.
_KNOWN: dict[Any, _combine] = {how: _combine(how) for how in (*_COMBINE, operator.truediv)}
_NORMAL = float(np.finfo(np.float32).tiny)  # the smallest number with all its digits


def joined(low: Lowering, combine: Any, *streams: Stream) -> Stream:
    """The stream whose terms combine those of several streams, as `fanout` does."""
    known = _KNOWN.get(combine) or low.interned(_combine(combine))
    return low.apply(None, known, *streams)


class fanout(Transform):
    r"""Parallel composition, where all branches see the same gradients, $u = c(f_1(g), \dots, f_n(g))$.

    `a / b` is short for `fanout("divide", a, b)`, and likewise for the other operators.

    Args:
        combine: $c$, which combines the updates of all branches: "add", "subtract", "multiply",
            "divide", "arctan2", "maximum", "minimum", or a function of as many arrays as there are
            branches. A quotient is 0 where its denominator is 0.
        branches: $f_1, \dots, f_n$, each as an argument of its own: transformations of gradtx or of
            Optax, of which there is at least one; and numbers, arrays or schedules, which are
            treated as `constant`.

    The state is the tuple of the branches' states.

    Raises:
        ValueError: if the name in `combine` is unknown, if the number of branches does not fit it, or
            if the function in `combine` returns an array of another shape.
        TypeError: if none of the branches is a transformation, or if one is neither a transformation
            nor a number, an array or a schedule.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.fanout("divide", gradtx.identity(), gradtx.rms() + 1e-8)
    identity() / (rms() + 1e-08)
    >>> tx = gradtx.fanout(jnp.maximum, gradtx.identity(), 1.0)
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))[0]
    Array([1., 3.], dtype=float32)
    """

    combine: Any
    branches: tuple[Inside | Hyper, ...]
    ignores_updates = property(lambda self: all(x.ignores_updates for x in self.terms))  # pyright: ignore

    def __init__(
        self, combine: Combine, *args: Branch, branches: Sequence[Branch] | None = None
    ) -> None:
        branches = args if branches is None else branches
        check_combination(combine, branches, _COMBINE)
        object.__setattr__(self, "combine", combine)
        object.__setattr__(self, "branches", tuple(map(_branch, branches)))
        self.__post_init__()

    def __repr__(self) -> str:
        if self.combine not in _SIGN or len(self.branches) != 2:
            return f"fanout({show(self.combine)}, {', '.join(map(show, self.branches))})"
        sign, rank = _SIGN[self.combine]
        left, right = self.branches
        return f"{_operand(left, rank)} {sign} {_operand(right, rank + 1)}"

    @functools.cached_property
    def terms(self) -> tuple[Transform, ...]:
        """The branches as transformations: each number is replaced by a `constant`."""
        return tuple([x if isinstance(x, Transform) else constant(x) for x in self.branches])

    @property
    def least(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self.combine not in ("add", "maximum"):
            return None
        known = [branch.least for branch in self.terms]
        if self.combine == "maximum":
            return max((x for x in known if x is not None), default=None)
        return None if None in known else math.fsum(known)  # pyright: ignore[reportArgumentType]

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream = low.compute(stream) if self.traits.whole else stream
        shown = squares = stream
        if not self.linear and any(map(_passes, self.terms)):
            # If one branch squares the gradient, all branches get the clipped gradient, so that they
            # see the same values. An infinite entry becomes NaN for the linear branches. That is
            # enough to show it in the result, and saves the other branches two operations.
            squares = low.bounded(stream, how=SQUARABLE)
            shown = low.bounded(stream, squares)
        outs, states = [], []
        low.whole_fanouts += self.traits.whole
        for branch in self.terms:
            check_around(self, branch)
            out, state = low.lower(branch, shown if branch.linear else squares)
            outs.append(out)
            states.append(state)
        low.whole_fanouts -= self.traits.whole
        how = self.combine
        if how == "divide" and (self.terms[1].least or 0) >= _NORMAL:
            how = operator.truediv  # a guard for a denominator of 0 would have to be compiled
        return joined(low, how, *outs), tuple(states)

    def tex(self, g: Tex, page: Page) -> Tex:
        branches = [branch.tex(g, page) for branch in self.terms]
        match self.combine, branches:
            case "add", _:
                return functools.reduce(plus, branches)
            case "multiply", _:
                numbers_first = sorted(branches, key=lambda x: not x.text[0].isdigit())
                return functools.reduce(times, numbers_first)
            case "subtract", [a, b]:
                return plus(a, b, "-")
            case "divide", [a, b]:
                return fraction(a, b)
            case ("maximum" | "minimum") as word, _:
                listed = ", ".join(branch.text for branch in branches)
                return Tex(rf"\{word[:3]}\left({listed}\right)")
            case _:
                words = r"\text{: the function that combines the branches}"
                return page.function(show(self.combine), words, *branches)


def _branch(x: Any) -> Any:
    if isinstance(x, optax.GradientTransformation):
        return as_transform(x, "fanout(...)")
    if x is None or isinstance(x, tuple | list | dict):  # which `Value` would accept in the field
        raise TypeError(
            f"A branch must be a transformation, a number or a schedule, not {described(x)}."
        )
    return x


def _passes(branch: Transform) -> bool:
    """Whether a branch passes an infinite or NaN entry of the gradient on to its update."""
    return branch.linear and not branch.ignores_updates


def _operand(x: Any, rank: int) -> str:
    loose = isinstance(x, fanout) and x.combine in _SIGN and len(x.branches) == 2
    binds = _SIGN[x.combine][1] if loose else getattr(x, "_rank", rank)  # a schedule's operators
    return f"({x!r})" if binds < rank else show(x)


def _operator(combine: Any, *, reflected: bool = False) -> Any:
    def operator(self: Transform, other: Any) -> fanout:
        branches = (other, self) if reflected else (self, other)
        return fanout(combine, *branches)

    return operator


# The operators of every transformation and their reflected forms. Without them, `+` and `*` would
# concatenate and repeat the tuple that a transformation is.
for _name, _how in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
}.items():
    setattr(Transform, f"__{_name}__", _operator(_how))
    setattr(Transform, f"__r{_name}__", _operator(_how, reflected=True))
