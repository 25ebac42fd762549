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

    def _no_tuple(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"`{type(self).__name__}` is a value and not a named tuple. Use "
            "`gradtx.replace(tx, name=...)` for a changed copy, and read a field as `tx.name`."
        )

    _replace = _asdict = _no_tuple  # pyright: ignore

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
