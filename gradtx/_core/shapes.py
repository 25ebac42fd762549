"""Shapes in annotations, which `tests/matrices/test_shapes.py` checks while transformations run.

    def row_norms(x: Annotated[jax.Array, "batch in out"]) -> Annotated[jax.Array, "batch 1 out"]: ...

The string has one word per axis. A name is the same size wherever it stands in the annotations of a
call, and a number is that size. `_` is any size, `...` is any number of axes, and `*name` is any number
of axes whose sizes are the same throughout the call. An empty string is the shape of a scalar. Editors
and type checkers see a plain array.
"""

from typing import Annotated, Any

import jax

Matrices = Annotated[jax.Array, "batch in out"]  # in the convention `x @ W`
Shapes = Annotated[Any, "batch in out"]  # matrices, or a `jax.ShapeDtypeStruct` of them
InBasis = Annotated[jax.Array, "batch _ _"]  # matrices in a basis, which may have other sizes
Leaf = Annotated[jax.Array, "*leaf"]
Alike = Annotated[jax.Array, "*alike"]  # any shape, and the same for all arrays of a call
Scalar = Annotated[jax.Array, ""]
