"""`state_shardings`: how the state of an optimizer lies on a mesh, given how the parameters lie."""

from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from gradtx._core.authors import described
from gradtx._core.boundary import as_param
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.inside import warn_of_layouts, with_shardings
from gradtx._core.trees import PyTree, flatten, is_none, paths


def state_shardings(
    tx: optax.GradientTransformation, params: PyTree, param_shardings: PyTree = None
) -> Any:
    """The sharding of every array of `tx.init(params)`, where an array like a parameter is like it.

    `jax.jit(tx.init, out_shardings=gradtx.state_shardings(tx, params))(params)` makes the state on its
    devices, on meshes with axes of the type Auto, too, where the compiler would else replicate it. The
    target with which Orbax restores a state is
    `jax.eval_shape(jax.jit(tx.init, out_shardings=shardings), params)`.

    `init` is traced, and nothing is computed. The shardings follow the operations in `init`, so they are
    right for every composition, for Optax's transformations and for your own classes. Arrays that do not
    come from a parameter, such as counts, are replicated. A warning names the matrices that devices
    would gather whole in every step, because of the way in which they are sharded, and says what to do.

    Args:
        tx: the optimizer, of gradtx or of Optax.
        params: the tree of parameters: arrays, or `jax.ShapeDtypeStruct`s.
        param_shardings: the `NamedSharding` of every parameter, as a tree of the structure of `params`,
            or a prefix of it, such as one sharding for all. None means the shardings that the
            parameters have.

    Raises:
        TypeError: if `tx` is not a transformation, or if the sharding of a parameter is not a
            `NamedSharding`; the message names its path.
        ValueError: if parameters lie on different meshes.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> from jax.sharding import NamedSharding, PartitionSpec as P
    >>> rows = NamedSharding(jax.make_mesh((jax.device_count(),), ("data",)), P("data"))
    >>> params = {"w": jax.ShapeDtypeStruct((64, 8), jnp.bfloat16)}
    >>> shardings = gradtx.state_shardings(gradtx.adam(1e-3), params, rows)
    >>> gradtx.get(shardings, "mu")["w"].spec, gradtx.get(shardings, "count").spec
    (P('data',), P())
    """
    check_arguments(state_shardings, locals())
    tx = as_transform(tx, "state_shardings(tx=...)")
    leaves, structure = flatten(params)
    is_array = [hasattr(x, "dtype") for x in leaves]
    shardings = of_leaves(params, param_shardings)
    where = paths(params)
    named = {where[i] or ".": s for i, s in enumerate(shardings) if is_array[i] and s is not None}
    mesh = named_mesh(named)
    if mesh is None:  # everything lies on one device
        (one,) = set(named.values()) or {None}
        return jax.tree.map(lambda _: one, jax.eval_shape(tx.init, params))
    # This comes before the trace of `init`, which would warn of the same.
    owned = [as_param(x) if hasattr(x, "shape") else None for x in leaves]
    warn_of_layouts(tx, with_shardings(owned, shardings), structure, 2)
    # Under axes of the type Explicit, the type of an array has its sharding, so tracing finds it.
    names = mesh.axis_names
    typed = AbstractMesh(mesh.axis_sizes, names, axis_types=(AxisType.Explicit,) * len(names))
    shapes = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(typed, s.spec))
        for x, s, known in zip(leaves, shardings, is_array, strict=True)
        if known
    ]
    found: list[Any] = []

    def trace(arrays: list[Any]) -> None:
        rest = iter(arrays)
        merged = [next(rest) if known else x for x, known in zip(leaves, is_array, strict=True)]
        state = tx.init(structure.unflatten(merged))
        found.append(jax.tree.map(lambda x: _sharding_of(x, mesh), state))

    with jax.sharding.use_abstract_mesh(typed):
        jax.eval_shape(trace, shapes)
    return found[0]


def of_leaves(params: PyTree, shardings: PyTree, owner: str = "state_shardings") -> list[Any]:
    """The sharding of every leaf of the parameters; None for a leaf that has none.

    `owner` is the name of the function in error messages.

    Raises:
        ValueError: if `shardings` does not fit the structure of the parameters.
        TypeError: if it holds something else than shardings.
    """
    if shardings is None:
        return [getattr(x, "sharding", None) for x in flatten(params)[0]]
    try:
        all_shardings = jax.tree.broadcast(shardings, params, is_leaf=is_none)
    except ValueError:
        raise ValueError(
            f"`{owner}(param_shardings=...)` does not fit the structure of the parameters: pass one "
            "sharding for each parameter or subtree of parameters."
        ) from None
    found = jax.tree.leaves(all_shardings, is_leaf=is_none)
    for path, x in zip(paths(params), found, strict=True):
        if x is not None and not isinstance(x, jax.sharding.Sharding | PartitionSpec):
            raise TypeError(
                f"`{owner}(param_shardings=...)` has {described(x)} for the parameter at "
                f"`{path or '.'}`, where it needs a `NamedSharding`."
            )
    return found


def named_mesh(shardings: dict[str, Any], owner: str = "state_shardings") -> Any:
    """The mesh of these shardings, given by path; None if all are the same single device.

    `owner` is the name of the function in error messages.

    Raises:
        TypeError: if one of them is not a `NamedSharding`.
        ValueError: if they are on different meshes.
    """
    if len({*shardings.values()}) <= 1 and not any(
        isinstance(s, NamedSharding | PartitionSpec) for s in shardings.values()
    ):
        return None
    first = ""
    for path, s in shardings.items():
        if not isinstance(s, NamedSharding):
            raise TypeError(
                f"`{owner}`: the sharding of the parameter at `{path}` is {described(s)}, and "
                "it must be a `NamedSharding`, which says how the parameter lies on the mesh."
            )
        first = first or path
        if s.mesh != shardings[first].mesh:
            raise ValueError(
                f"`{owner}`: the parameters at `{first}` and `{path}` are on different meshes, "
                f"{shardings[first].mesh} and {s.mesh}. Place all parameters on one mesh."
            )
    return shardings[first].mesh


def _sharding_of(x: Any, mesh: Any) -> NamedSharding:
    """The sharding, on `mesh`, of an array that was traced under Explicit axes."""
    kind = jax.typeof(x)
    axes = list(kind.sharding.spec)
    while axes and axes[-1] is None:
        del axes[-1]
    host = kind.memory_space == jax.memory.Space.Host
    return NamedSharding(mesh, PartitionSpec(*axes), memory_kind="pinned_host" if host else None)
