"""Parallel composition: branches that see the same updates, and the operators that join them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.chain import Composition
from gradtx._core.dtypes import compute_dtype, real_dtype
from gradtx._core.elementwise import Elementwise
from gradtx._core.foreign import as_transform
from gradtx._core.leafwise import update_elementwise
from gradtx._core.numerics import bounded
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Hyper


class constant(Elementwise):
    """The same number for every update: $u = c$. What a number is as a branch of `fanout`.

    Args:
        value: $c$, a number, an array or a schedule.

    Raises `TypeError` for anything else.
    """

    value: Hyper

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return jnp.asarray(self.value, real_dtype(update.dtype)), state


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


class fanout(Composition):
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
    def parts(self) -> tuple[Any, ...]:
        return tuple(b if isinstance(b, Transform) else constant(b) for b in self.branches)

    def _of(self, parts: list[Any]) -> Any:
        return self._with(branches=tuple(parts))

    @property
    def elementwise(self) -> bool:  # pyright: ignore
        return all(part.elementwise for part in self.parts)

    @property
    def looks(self) -> bool:  # pyright: ignore
        return any(part.looks for part in self.parts)

    def _combined(self, *outputs: jax.Array) -> jax.Array:
        return (_COMBINE[self.combine] if isinstance(self.combine, str) else self.combine)(*outputs)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        seen = self._seen(update)
        steps = [
            p.update_leaf(u, s, param) for p, u, s in zip(self.parts, seen, state, strict=True)
        ]
        return self._combined(*(u for u, _ in steps)), tuple(s for _, s in steps)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        work: Any = self.working()
        if work.elementwise:
            return update_elementwise(work, updates, state, params, extra)
        seen = work._seen(updates)
        steps = [
            p.update_tree(u, s, params, extra)
            for p, u, s in zip(work.parts, seen, state, strict=True)
        ]
        return tree_map(self._joined, *(u for u, _ in steps)), tuple(s for _, s in steps)

    def _seen(self, updates: PyTree) -> list[PyTree]:
        """What each branch gets: where one squares, the others get nothing that it could not."""
        if not self.squares:
            return [updates] * len(self.parts)
        rest = tree_map(lambda u: bounded(u.astype(compute_dtype(u))), updates)
        return [updates if part.squares else rest for part in self.parts]

    def _joined(self, *outputs: jax.Array) -> jax.Array:
        # A branch may pass a bfloat16 leaf on as it is, beside one that worked in float32.
        dtype = compute_dtype(*outputs)
        return self._combined(*(u.astype(dtype) for u in outputs))


def _branch(x: Any) -> Any:
    if isinstance(x, optax.GradientTransformation):
        return as_transform(x, "fanout(...)")
    if isinstance(x, tuple | list | dict):  # a field may hold these, a branch may not
        raise TypeError(f"A branch must be a transformation, a number or a schedule, not {x!r}.")
    return x


def _operand(x: Any, rank: int) -> str:
    loose = isinstance(x, fanout) and x.combine in _SIGN and len(x.branches) == 2
    return f"({x!r})" if loose and _SIGN[x.combine][1] < rank else show(x)
