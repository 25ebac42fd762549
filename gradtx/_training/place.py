"""`place`: tell the transformations of matrices in an optimizer how the parameters are sharded."""

import dataclasses
from typing import Any, TypeVar

from gradtx._compose.rules import Rule
from gradtx._core.foreign import as_transform
from gradtx._core.sharding import named_axes
from gradtx._core.trees import PyTree, flatten, paths
from gradtx._core.values import Value
from gradtx._matrices.laid_out import laid_out
from gradtx._training.shardings import named_mesh, of_leaves

T = TypeVar("T")


def place(tx: T, params: PyTree, param_shardings: PyTree = None) -> T:
    """The optimizer `tx`, in which every rule for matrices knows how the parameters are sharded.

    A compiled step on a mesh with axes of the type Explicit knows that anyway. On axes of the type Auto,
    `place` spares the compiler the search for good exchanges, which are then the same as on Explicit
    axes. Inside `jax.shard_map`, where a leaf is the part that the device holds, it is needed: without
    it, `muon` would take the part for a whole matrix.

    Each rule `axes` becomes `laid_out(axes, specs)`. The numbers and the state stay the same, so a run
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
    as_transform(tx, "place(tx=...)")
    leaves, _ = flatten(params)
    named = {
        path: (sharding, x)
        for path, x, sharding in zip(
            paths(params), leaves, of_leaves(params, param_shardings), strict=True
        )
        if sharding is not None and hasattr(x, "shape")
    }
    mesh = named_mesh({path or ".": sharding for path, (sharding, _) in named.items()}, "place")
    if mesh is None:
        return tx
    specs = {}
    for path, (sharding, x) in named.items():
        axes = named_axes(sharding.spec, mesh, len(x.shape))
        if any(axes):
            specs[path] = tuple((n[0] if len(n) == 1 else n) or None for n in axes)
    return _placed(tx, specs)


def _placed(x: Any, specs: dict[str, Any]) -> Any:
    """`x` with these specs in every rule for matrices, at any depth."""
    if isinstance(x, laid_out):
        return laid_out(x.rule, specs)
    if isinstance(x, Rule) and hasattr(x, "axes"):
        return laid_out(x, specs)  # pyright: ignore[reportArgumentType]
    if isinstance(x, Value):
        fields = [f.name for f in dataclasses.fields(x)]  # pyright: ignore[reportArgumentType]
        old = {name: getattr(x, name) for name in fields}
        new = {name: _placed(value, specs) for name, value in old.items()}
        changed = {name: value for name, value in new.items() if value is not old[name]}
        return dataclasses.replace(x, **changed) if changed else x  # pyright: ignore
    if isinstance(x, dict):
        new = {key: _placed(value, specs) for key, value in x.items()}
        return type(x)(new) if any(new[key] is not x[key] for key in x) else x
    if type(x) is tuple:
        new = tuple(_placed(value, specs) for value in x)
        return new if any(a is not b for a, b in zip(new, x, strict=True)) else x
    return x
