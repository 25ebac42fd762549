"""The arrays of a tree of parameters, and the parts of the tree that the compiled step holds fixed."""

from typing import Any, NamedTuple

import jax

from gradtx._core.trees import PyTree


class Fixed(NamedTuple):
    """What of a tree of parameters is not an argument of the compiled step.

    Attributes:
        structure: the structure of the tree.
        is_array: for every leaf, whether it is an argument.
        constants: the other leaves.
    """

    structure: Any
    is_array: tuple[bool, ...]
    constants: tuple[Any, ...]

    def join(self, arrays: list[Any], fill: Any = None) -> PyTree:
        """The tree with these arrays, and with its constants, or with `fill` in their places."""
        arrays_next, rest = iter(arrays), iter(self.constants if fill is None else fill)
        leaves = [next(arrays_next if known else rest) for known in self.is_array]
        return self.structure.unflatten(leaves)


def split(params: PyTree) -> tuple[Fixed, list[Any]]:
    """What of the parameters is constant, and their arrays."""
    leaves, structure = jax.tree.flatten(params)
    model = _is_equinox(params)
    is_array = tuple(
        hasattr(x, "dtype") or (not model and isinstance(x, bool | int | float | complex))
        for x in leaves
    )
    constants = tuple(x for x, known in zip(leaves, is_array, strict=True) if not known)
    arrays = [x for x, known in zip(leaves, is_array, strict=True) if known]
    return Fixed(structure, is_array, constants), arrays


def _is_equinox(tree: PyTree) -> bool:
    """Whether a tree has a module of Equinox, in which Python numbers are settings of the model."""
    found = []

    def look(x: Any) -> bool:
        found.extend(k for k in type(x).__mro__ if k.__module__.startswith("equinox."))
        return bool(found)

    jax.tree.leaves(tree, is_leaf=look)
    return bool(found)
