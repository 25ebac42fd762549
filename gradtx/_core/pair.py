"""What Optax and its hosts see in a transformation: the pair (init, update), as a NamedTuple of theirs.

A transformation derives from Optax's NamedTuple, so that `isinstance` holds, but keeps its fields in its
dictionary. So the tuple inside is empty, and what a tuple can do is either answered with the pair or
refused.
"""

from typing import Any, Self

import optax


class Pair(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformationExtraArgs` whose `init` and `update` are methods."""

    # NumPy scalars leave `2.0 * tx` to the transformation.
    __array_ufunc__ = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return tuple.__new__(cls)

    def __iter__(self):  # pyright: ignore
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
            f"`{type(self).__name__}` is a value and not a named tuple; change it with "
            "`gradtx.replace(tx, name=...)`, and read its fields by their names."
        )

    _replace = _asdict = _no_tuple  # pyright: ignore
