"""What makes a transformation look like Optax's pair of functions `(init, update)`.

`Transform` derives from `optax.GradientTransformationExtraArgs`, which is a NamedTuple, so that
`isinstance` holds wherever Optax's transformations are accepted. Its fields lie in the instance's
`__dict__`, so the inherited tuple is empty. `Pair` overrides what a tuple can do: unpacking and indexing
give `init` and `update`, and everything else that would read the empty tuple raises an error.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import optax

if TYPE_CHECKING:
    from gradtx._compose.fanout import Branch, fanout


class _NotATuple:
    """What a named tuple has and a transformation does not: to read it is an error."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        raise AttributeError(
            f"`{owner.__name__}` is a value and not a named tuple, so it has no `{self.name}`: "
            f"{self.remedy}."
        )


class Pair(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformationExtraArgs` whose `init` and `update` are methods."""

    # Makes a NumPy scalar `x` leave `x * tx` to `__rmul__` of the transformation.
    __array_ufunc__ = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return tuple.__new__(cls)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.init, self.update))

    def __getitem__(self, index: Any) -> Any:
        return (self.init, self.update)[index]

    def __len__(self) -> int:
        return 2

    def __contains__(self, item: object) -> bool:
        return item in (self.init, self.update)

    def _unordered(self, other: object) -> Any:
        return NotImplemented

    __lt__ = __le__ = __gt__ = __ge__ = _unordered  # pyright: ignore

    _replace = _NotATuple("use `gradtx.replace(tx, name=...)` for a changed copy")  # pyright: ignore
    _asdict = _NotATuple(  # pyright: ignore
        "read a field as `tx.name`, or write the value with `gradtx.to_config(tx)`"
    )
    _make = _NotATuple("call the class, such as `gradtx.adamw(1e-3)`")  # pyright: ignore
    _fields = _NotATuple("`dataclasses.fields(tx)` lists its fields")  # pyright: ignore
    _field_defaults = _NotATuple("`dataclasses.fields(tx)` lists its fields")  # pyright: ignore
    count = _NotATuple("its two methods are `tx.init` and `tx.update`")  # pyright: ignore
    index = _NotATuple("its two methods are `tx.init` and `tx.update`")  # pyright: ignore

    # Higher files attach these methods (`fanout.py` and `equations.py`); a type checker reads them here.

    if TYPE_CHECKING:

        def __truediv__(self, other: "Branch") -> "fanout": ...
        def __rtruediv__(self, other: "Branch") -> "fanout": ...
        def __mul__(self, other: "Branch") -> "fanout": ...  # pyright: ignore
        def __rmul__(self, other: "Branch") -> "fanout": ...  # pyright: ignore
        def __add__(self, other: "Branch") -> "fanout": ...  # pyright: ignore
        def __radd__(self, other: "Branch") -> "fanout": ...
        def __sub__(self, other: "Branch") -> "fanout": ...
        def __rsub__(self, other: "Branch") -> "fanout": ...
        def _repr_latex_(self) -> str | None: ...
