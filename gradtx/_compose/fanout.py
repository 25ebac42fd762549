"""Parallel composition: branches that see the same updates, and the operators that join them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.dtypes import real_dtype
from gradtx._core.foreign import as_transform
from gradtx._core.latex import Page, Tex, call, fraction, number, plus, times
from gradtx._core.lowering import Lowering
from gradtx._core.static import show
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper, Value


class constant(Elementwise):
    """The same number for every update: $u = c$. What a number is as a branch of `fanout`.

    Args:
        value: $c$, a number, an array or a schedule.

    Raises `TypeError` for anything else.
    """

    value: Hyper
    linear = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        value = jnp.asarray(self.value).astype(real_dtype(update.dtype))
        return jnp.broadcast_to(value, update.shape), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return number(self.value)


def _divide(a: jax.Array, b: jax.Array) -> jax.Array:
    # A root mean square that is 0 (no gradient yet, or one whose square vanished) moves nothing. The
    # inner `where` keeps the derivative finite there too.
    zero = b == 0
    return jnp.where(zero, jnp.zeros((), a.dtype), a / jnp.where(zero, jnp.ones((), b.dtype), b))


_COMBINE: dict[str, Callable[..., Any]] = {
    "add": lambda *xs: sum(xs[1:], xs[0]),
    "subtract": lambda a, b: a - b,
    "multiply": lambda *xs: jax.tree.reduce(jnp.multiply, xs),
    "divide": _divide,
}
_SIGN = {"add": ("+", 1), "subtract": ("-", 1), "multiply": ("*", 2), "divide": ("/", 2)}


class _combine(Value):
    """Several updates joined to one, as a step of a leaf's program."""

    how: Any

    def apply_leaf(self, args: list[jax.Array], state: Any, param: Any, told: Any) -> Any:
        function = _COMBINE[self.how] if isinstance(self.how, str) else self.how
        update = function(*args)
        if jnp.shape(update) != args[0].shape:
            name = getattr(function, "__name__", function)
            raise ValueError(
                f"`fanout(combine={name})` returned an array of shape {jnp.shape(update)} from "
                f"updates of shape {args[0].shape}. Return an update of the same shape."
            )
        return update, state


class fanout(Transform):
    r"""Parallel composition: all branches see the same updates, $u = c(f_1(g), \dots, f_n(g))$.

    `fanout("divide", a, b)` is what `a / b` makes.

    Args:
        combine: $c$: "add", "subtract", "multiply", "divide", or a function of as many arrays as there
            are branches. In a quotient, 0 in the denominator gives 0.
        branches: transformations; a number, array or schedule is a `constant`.

    The state is the tuple of the branches' states. Raises `ValueError` for an unknown name, `TypeError`
    without any transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.fanout("divide", gradtx.identity(), gradtx.rms() + 1e-8)
    identity() / (rms() + 1e-08)
    >>> tx = gradtx.fanout(jnp.maximum, gradtx.identity(), 1.0)
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))[0]
    Array([1., 3.], dtype=float32)
    """

    combine: Any
    branches: tuple[Transform | Hyper, ...]

    def __init__(self, combine: Any, *args: Any, branches: Any = None) -> None:
        branches = args if branches is None else branches
        if isinstance(combine, str) and combine not in _COMBINE:
            raise ValueError(
                f"`fanout(combine={combine!r})` must be a function or one of {sorted(_COMBINE)}."
            )
        wanted = {"subtract": 2, "divide": 2}.get(combine) if isinstance(combine, str) else None
        if not isinstance(combine, str) and not callable(combine):
            raise TypeError(
                f"`fanout(combine={combine!r})` must be a function or one of {sorted(_COMBINE)}."
            )
        if wanted and len(branches) != wanted:
            raise ValueError(
                f"`fanout({combine!r}, ...)` joins {wanted} branches, and {len(branches)} were given."
            )
        if not any(isinstance(b, optax.GradientTransformation) for b in branches):
            raise TypeError(
                f"`fanout({combine!r}, ...)` needs at least one transformation among {branches!r}."
            )
        object.__setattr__(self, "combine", combine)
        object.__setattr__(self, "branches", tuple(map(_branch, branches)))
        self.__post_init__()

    def __repr__(self) -> str:
        if self.combine not in _SIGN or len(self.branches) != 2:
            combine = self.combine.__name__ if callable(self.combine) else repr(self.combine)
            return f"fanout({combine}, {', '.join(map(show, self.branches))})"
        sign, rank = _SIGN[self.combine]
        left, right = self.branches
        return f"{_operand(left, rank)} {sign} {_operand(right, rank + 1)}"

    @property
    def terms(self) -> tuple[Transform, ...]:
        """The branches, with numbers as constants."""
        if "_branches" not in self.__dict__:
            terms: list[Transform] = []
            for branch in self.branches:
                terms.append(branch if isinstance(branch, Transform) else constant(branch))
            self.__dict__["_branches"] = tuple(terms)
        return self.__dict__["_branches"]

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream = low.compute(stream) if self.whole else stream
        shown = squares = stream
        if not self.linear and any(map(_passes, self.terms)):
            # Where one branch squares what it gets, the others get nothing that it could not square.
            # An infinity shows in these.
            shown, squares = low.bounded(stream), low.bounded(stream, shows=False)
        outs, states = [], []
        for branch in self.terms:
            out, state = low.lower(branch, shown if branch.linear else squares)
            outs.append(out)
            states.append(state)
        return low.apply(None, low.same(_combine(self.combine)), *outs), tuple(states)

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
            case _:
                return call(show(self.combine), *branches)


def _branch(x: Any) -> Any:
    if isinstance(x, optax.GradientTransformation):
        return as_transform(x, "fanout(...)")
    if isinstance(x, tuple | list | dict):  # a field may hold these, a branch may not
        raise TypeError(f"A branch must be a transformation, a number or a schedule, not {x!r}.")
    return x


def _passes(branch: Transform) -> bool:
    """Whether an infinite gradient shows in what a branch gives."""
    return branch.linear and not isinstance(branch, constant)


def _operand(x: Any, rank: int) -> str:
    loose = isinstance(x, fanout) and x.combine in _SIGN and len(x.branches) == 2
    return f"({x!r})" if loose and _SIGN[x.combine][1] < rank else show(x)


def _operator(combine: str, *, reflected: bool = False) -> Any:
    def operator(self: Transform, other: Any) -> fanout:
        branches = (other, self) if reflected else (self, other)
        return fanout(combine, *branches)

    return operator


# The operators of every transformation, and their reflections: a tuple would concatenate and repeat.
for _name, _how in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
}.items():
    setattr(Transform, f"__{_name}__", _operator(_how))
    setattr(Transform, f"__r{_name}__", _operator(_how, reflected=True))
