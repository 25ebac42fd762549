"""`Plan`: everything about the update of a group on a mesh that is known before it is compiled."""

import math
from itertools import combinations
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx._core.dtypes import saturated
from gradtx._matrices.groups import GROUP_BYTES
from gradtx._matrices.hops import Rows
from gradtx._matrices.units import UnitGroup, UnitLeaf


class Plan(NamedTuple):
    """A group of leaves on a mesh, as a part of a compiled function's cache key.

    Attributes:
        steps: what is computed, such as `Steps`: its `run` takes whole matrices, and says by `inputs`,
            `outputs` and `kept` what comes in and back.
        group: what the leaves have in common.
        leaves: the leaves.
        mesh: the mesh.
        wire: the dtype in which matrices travel, or None for their own.
        cap: the largest size in bytes of the whole matrices that a device holds at once.
        replicas: whether devices that hold the same share its matrices. Otherwise all of them update
            all, and do not send the results.
    """

    steps: Any
    group: UnitGroup
    leaves: tuple[UnitLeaf, ...]
    mesh: Any
    wire: Any = None
    cap: int = GROUP_BYTES
    replicas: bool = True

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the arrays of the state that come back."""
        kept = self.steps.kept
        return tuple(range(len(self.group.states))) if kept is None else kept

    def shared_over(self, count: int) -> tuple[str, ...]:
        """The mesh axes over which so many matrices are shared among devices.

        These are as few devices as suffice for the smallest share. The others update the same matrices,
        which takes as long and sends less.
        """
        sizes = {name: n for name, n in self.mesh.shape.items() if n > 1}
        least = -(-count // math.prod(sizes.values()))
        several = [names for k in range(len(sizes) + 1) for names in combinations(sizes, k)]
        several.sort(key=lambda names: math.prod(sizes[name] for name in names))
        share = lambda names: -(-count // math.prod(sizes[name] for name in names))
        return next(names for names in several if share(names) == least)

    def wire_of(self, dtype: Any) -> Any:
        """The dtype in which matrices of this dtype travel, which is `wire` if it is narrower."""
        real = self.wire is not None and jnp.issubdtype(dtype, jnp.floating)
        narrower = real and jnp.dtype(self.wire).itemsize < jnp.dtype(dtype).itemsize
        return jnp.dtype(self.wire) if narrower else dtype

    def sent(self, x: Rows) -> Rows:
        """Matrices in the dtype in which they travel; a finite entry stays finite."""
        wire = self.wire_of(x.dtype)
        return x if wire == x.dtype else saturated(x, wire)
