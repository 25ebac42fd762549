"""`laid_out`: a rule for matrices that also says how every leaf is sharded."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec

from gradtx._compose.rules import Rule
from gradtx._core.authors import described
from gradtx._core.sharding import left_axes, manual_axes
from gradtx._matrices.axes import MatrixRule
from gradtx._matrices.matrix_axes import MatrixAxes


class laid_out(Rule):
    """A rule for matrices, together with the mesh axes that shard the axes of every leaf.

    Two places do not say by themselves how a matrix is sharded: a compiled step on a mesh with axes of
    the type Auto, and `jax.shard_map`, where a leaf is the part that the device holds. `gradtx.place`
    makes such a rule from the shardings of the parameters, and it may be written by hand.

    Args:
        rule: the rule that says which leaves are matrices, and which of their axes are inputs and
            outputs, such as `hidden_matrices()`. Inside `shard_map` it sees the shapes of whole leaves.
        specs: for the path of every leaf that is sharded, the entries of its `PartitionSpec`: for each
            axis of the leaf the name of a mesh axis, a tuple of names, or None. A leaf whose path is
            missing is not sharded.

    Raises:
        TypeError: if `rule` is not a rule for matrices, or if `specs` is not such a mapping.
        ValueError: if a leaf of unequal fused parts is sharded over an axis of a `shard_map`, or if a
            leaf is sharded over an axis of a `shard_map` and over one that it does not go over.

    >>> import gradtx
    >>> rule = gradtx.laid_out(gradtx.hidden_matrices(), {"hidden/kernel": (None, "data")})
    >>> gradtx.muon(1e-3, axes=rule)
    muon(0.001, axes=laid_out(hidden_matrices(), {'hidden/kernel': (None, 'data')}))
    """

    rule: MatrixRule
    specs: Mapping[str, Sequence[Any]]
    says_bools = False

    def validate(self) -> None:
        for path, spec in self.specs.items():
            try:
                PartitionSpec(*spec)
            except (TypeError, ValueError, AssertionError):
                raise TypeError(
                    f"`laid_out(specs={{{path!r}: ...}})` must be a tuple with the name of a mesh axis, "
                    f"a tuple of names or None for each axis, not {described(spec)}."
                ) from None

    @property
    def others(self) -> Any:
        """The label of all leaves that are not matrices, if the rule has one."""
        return self.rule.others  # pyright: ignore[reportAttributeAccessIssue]

    def check_paths(self, paths: Sequence[str]) -> None:
        if isinstance(self.rule, Rule):
            self.rule.check_paths(paths)

    def __call__(self, path: str, leaf: Any) -> Any:
        return self.rule(path, self.whole(path, leaf))  # pyright: ignore[reportCallIssue]

    def why(self, path: str, leaf: Any) -> tuple[bool, str]:
        """What `rule.why` says about the whole leaf.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        if not hasattr(self.rule, "why"):
            return False, repr(self.rule)
        return self.rule.why(path, self.whole(path, leaf))  # pyright: ignore

    def axes(self, path: str, leaf: Any) -> MatrixAxes:
        """Which axes of a leaf are the inputs and the outputs of its matrix, and how they are sharded.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        spec = self._spec(path, leaf)
        axes = self.rule.axes(path, self.whole(path, leaf))._replace(spec=spec)
        left = [n for names in spec for n in names if n in left_axes()]
        if left and axes.is_part:
            raise ValueError(
                f"`{path or '.'}` is sharded over the mesh axis {left[0]!r}, which this `shard_map` "
                "does not go over, and over one that it goes over. Let `shard_map` go over all axes of "
                "the mesh, or call the optimizer outside of it."
            )
        if not isinstance(axes.blocks, int) and axes.is_part:
            raise ValueError(
                f"`{path or '.'}` holds unequal parts, {axes.blocks}, and is sharded over an axis of "
                "`shard_map`, so that a device may hold pieces of several parts. Call the optimizer "
                "outside of `shard_map`."
            )
        return axes

    def whole(self, path: str, leaf: Any) -> Any:
        """The leaf; inside `shard_map` the shape and the dtype of the array of which it is a part.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        if not manual_axes():
            return leaf
        axes = MatrixAxes((), (), spec=self._spec(path, leaf))
        return jax.ShapeDtypeStruct(axes.whole(tuple(leaf.shape)), leaf.dtype)

    def _spec(self, path: str, leaf: Any) -> tuple[tuple[str, ...], ...]:
        given = (*self.specs.get(path, ()), *(None,) * len(leaf.shape))[: len(leaf.shape)]
        return tuple(() if x is None else x if isinstance(x, tuple) else (x,) for x in given)
