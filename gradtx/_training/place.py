"""`place`: tell the transformations of matrices in an optimizer how the parameters are sharded."""

import dataclasses
from typing import Any, NamedTuple, TypeVar

import optax

from gradtx._compose.rules import Rule
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.inside import Leaves, with_shardings
from gradtx._core.sharding import named_axes
from gradtx._core.trees import PyTree, Structure, flatten, paths
from gradtx._core.values import Value
from gradtx._matrices.laid_out import laid_out
from gradtx._training.shardings import named_mesh, of_leaves
from gradtx._wrappers.zero1 import zero1

T = TypeVar("T", bound=optax.GradientTransformation)


def place(tx: T, params: PyTree, param_shardings: PyTree = None) -> T:
    """The optimizer `tx`, in which every rule for matrices knows how the parameters are sharded.

    A compiled step on a mesh with axes of the type Explicit knows that anyway. On axes of the type Auto,
    `place` spares the compiler the search for good exchanges, which are then the same as on Explicit
    axes. Inside `jax.shard_map`, where a leaf is the part that the device holds, it is needed: without
    it, `muon` would take the part for a whole matrix.

    Each rule `axes` becomes `laid_out(axes, specs)`, where the specs inside of `zero1` are those of the
    parameters that `zero1` has split. The numbers and the state stay the same, so a run
    may be continued with the optimizer that `place` returns, and on another mesh with another one.

    Args:
        tx: the optimizer. One without transformations of matrices is returned unchanged.
        params: the tree of parameters, outside of `shard_map`: arrays, or `jax.ShapeDtypeStruct`s.
        param_shardings: the `NamedSharding` of every parameter, as a tree of the structure of `params`,
            or a prefix of it, such as one sharding for all. None means the shardings that the
            parameters have.

    Raises:
        TypeError: if `tx` is not a transformation, or if the sharding of a parameter is not a
            `NamedSharding`; the message names its path.
        ValueError: if parameters lie on different meshes.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> from jax.sharding import NamedSharding, PartitionSpec as P
    >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
    >>> kernel = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    >>> gradtx.place(
    ...     gradtx.muon(1e-3), {"kernel": kernel}, NamedSharding(mesh, P(None, "data"))
    ... ).axes
    laid_out(hidden_matrices(), {'kernel': (None, 'data')})
    """
    check_arguments(place, locals())
    as_transform(tx, "place(tx=...)")
    leaves, structure = flatten(params)
    shardings = of_leaves(params, param_shardings, "place")
    shardings = [s if hasattr(x, "shape") else None for x, s in zip(leaves, shardings, strict=True)]
    where = paths(params)
    named = {path or ".": s for path, s in zip(where, shardings, strict=True) if s is not None}
    mesh = named_mesh(named, "place")
    if mesh is None:
        return tx
    shapes = [None if s is None else x for x, s in zip(leaves, shardings, strict=True)]
    return _placed(tx, _Parameters(where, with_shardings(shapes, shardings), structure))


class _Parameters(NamedTuple):
    """The paths of the parameters, and their shapes with their shardings."""

    paths: list[str]
    leaves: Leaves
    structure: Structure

    @property
    def specs(self) -> dict[str, Any]:
        """By path, the mesh axes of every axis, for the leaves that are sharded."""
        found = {}
        for path, x in zip(self.paths, self.leaves, strict=True):
            if x is not None:
                axes = named_axes(x.sharding.spec, x.sharding.mesh, len(x.shape))
                if any(axes):
                    found[path] = tuple((n[0] if len(n) == 1 else n) or None for n in axes)
        return found


def _placed(x: Any, params: _Parameters) -> Any:
    """`x` with the specs of these parameters in every rule for matrices, at any depth."""
    if isinstance(x, zero1):  # inside, the parameters are sharded in another way
        ((inner, leaves),) = x.given_inside(params.leaves, params.structure)
        new = _placed(inner, params._replace(leaves=leaves))
        return x if new is inner else dataclasses.replace(x, inner=new)
    if isinstance(x, laid_out):
        return laid_out(x.rule, params.specs)
    if isinstance(x, Rule) and hasattr(x, "axes"):
        return laid_out(x, params.specs)  # pyright: ignore[reportArgumentType]
    if isinstance(x, Value):
        fields = [f.name for f in dataclasses.fields(x)]  # pyright: ignore[reportArgumentType]
        old = {name: getattr(x, name) for name in fields}
        new = {name: _placed(value, params) for name, value in old.items()}
        changed = {name: value for name, value in new.items() if value is not old[name]}
        return dataclasses.replace(x, **changed) if changed else x  # pyright: ignore
    if isinstance(x, dict):
        new = {key: _placed(value, params) for key, value in x.items()}
        return type(x)(new) if any(new[key] is not x[key] for key in x) else x
    if type(x) is tuple:
        new = tuple(_placed(value, params) for value in x)
        return new if any(a is not b for a, b in zip(new, x, strict=True)) else x
    return x
