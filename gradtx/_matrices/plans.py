"""`Plan`: everything about the update of a group on a mesh that is known before it is compiled."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx._core.dtypes import saturated
from gradtx._matrices.groups import GROUP_BYTES
from gradtx._matrices.hops import Rows
from gradtx._matrices.steps import Steps
from gradtx._matrices.units import UnitGroup, UnitLeaf


class Plan(NamedTuple):
    """A group of leaves on a mesh, as a part of a compiled function's cache key.

    Attributes:
        steps: what is computed.
        group: what the leaves have in common.
        leaves: the leaves.
        mesh: the mesh.
        wire: the dtype in which matrices travel, or None for their own.
        cap: the largest size in bytes of the whole matrices that a device holds at once.
    """

    steps: Steps
    group: UnitGroup
    leaves: tuple[UnitLeaf, ...]
    mesh: Any
    wire: Any = None
    cap: int = GROUP_BYTES

    def wire_of(self, dtype: Any) -> Any:
        """The dtype in which matrices of this dtype travel, which is `wire` if it is narrower."""
        real = self.wire is not None and jnp.issubdtype(dtype, jnp.floating)
        narrower = real and jnp.dtype(self.wire).itemsize < jnp.dtype(dtype).itemsize
        return jnp.dtype(self.wire) if narrower else dtype

    def sent(self, x: Rows) -> Rows:
        """Matrices in the dtype in which they travel; a finite entry stays finite."""
        wire = self.wire_of(x.dtype)
        return x if wire == x.dtype else saturated(x, wire)
