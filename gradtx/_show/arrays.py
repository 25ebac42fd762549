"""The arrays of an optimizer's state by their names, with dtypes, sizes and shardings."""

import math
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import NamedSharding

from gradtx._core.trees import Structure, is_none
from gradtx._show.text import size_of

HEADER = ("state", "dtype", "size", "per parameter")


class StateArray(NamedTuple):
    """One entry of a state: a scalar, or one array per parameter.

    Attributes:
        name: the path of the entry, as `gradtx.get` takes it, such as `0.mu`.
        dtype: the dtypes of its arrays, joined by ", ".
        bytes: how many bytes its arrays take on all devices together, each entry counted once.
        bytes_per_parameter: how many bytes there are for each entry of the parameters that the arrays
            belong to; None for a scalar.
        sharding: the partition specs of its arrays, joined by "; "; "" if the parameters are not
            sharded.
        bytes_per_device: how many bytes of it every device holds.
    """

    name: str
    dtype: str
    bytes: int
    bytes_per_parameter: float | None
    sharding: str
    bytes_per_device: int

    def cells(self, sharded: bool) -> tuple[str, ...]:
        """The texts of a row of the table."""
        each = self.bytes_per_parameter
        own = (
            self.name,
            self.dtype,
            size_of(self.bytes),
            "" if each is None else f"{each:.3g} B",
        )
        return (*own, size_of(self.bytes_per_device), self.sharding) if sharded else own


def state_arrays(state: Any, params: list[Any], structure: Structure) -> tuple[StateArray, ...]:
    """The entries of a state, in order.

    Args:
        state: the state, whose arrays may be `jax.ShapeDtypeStruct`s.
        params: the leaves of the parameters; None for leaves that are not optimized.
        structure: the structure of the parameters, where None is a leaf.
    """
    mesh = next((m for m in map(_sharding_of, params) if m is not None), None)
    shapes = [None if p is None else p.shape for p in params]
    found: dict[str, list[tuple[Any, Any]]] = {}

    def visit(node: Any, name: str) -> None:
        if isinstance(node, optax.MaskedNode) or node is None:
            return
        leaves, own = jax.tree.flatten(node, is_leaf=_is_absent)
        one = structure.num_leaves == 1 and own == structure and not _is_absent(leaves[0])
        alone = one and not _fits(leaves[0], shapes[0])
        if structure.num_leaves and own == structure and not alone:
            pairs = zip(leaves, params, strict=True)
            found.setdefault(name, []).extend(p for p in pairs if not _is_absent(p[0]))
            return
        for key, inside in _entries(node):
            # A dotted name may leave out parts of the path, so these two do not make it longer.
            hidden = isinstance(node, optax.MaskedState | optax.transforms.PartitionState)
            visit(inside, name if hidden else f"{name}.{key}" if name else key)
        if not _entries(node):
            found.setdefault(name, []).extend((x, None) for x in jax.tree.leaves(node))

    visit(state, "")
    return tuple(_entry(name, pairs, mesh) for name, pairs in found.items() if pairs)


def _entries(node: Any) -> list[tuple[str, Any]]:
    """The named entries of a node of the state: of a NamedTuple, a dictionary, a tuple or a list."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return list(zip(node._fields, node, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(node, dict):
        return [(str(key), x) for key, x in node.items()]
    if isinstance(node, tuple | list):
        return [(str(i), x) for i, x in enumerate(node)]
    return []


def _is_absent(x: Any) -> bool:
    return is_none(x) or isinstance(x, optax.MaskedNode)


def _fits(x: Any, shape: Any) -> bool:
    """Whether `x` may belong to the only parameter; the counter of steps does not."""
    return bool(x.shape) or (x.shape == shape and not str(x.dtype).startswith("int"))


def _entry(name: str, pairs: list[tuple[Any, Any]], mesh: NamedSharding | None) -> StateArray:
    shardings = [_state_sharding(x, p) for x, p in pairs]
    numbers = sum(math.prod(p.shape) for _, p in pairs if p is not None)
    total = sum(map(_bytes, (x for x, _ in pairs)))
    local = sum(
        _bytes(x) if s is None else math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize
        for (x, _), s in zip(pairs, shardings, strict=True)
    )
    specs = ["replicated" if s is None else _spec(s) for s in shardings] if mesh else []
    dtypes = dict.fromkeys(str(x.dtype) for x, _ in pairs)
    return StateArray(
        name or "(all)",
        ", ".join(dtypes),
        total,
        total / numbers if numbers else None,
        "; ".join(dict.fromkeys(specs)),
        local,
    )


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * x.dtype.itemsize


def _sharding_of(x: Any) -> NamedSharding | None:
    sharding = getattr(x, "sharding", None)
    several = isinstance(sharding, NamedSharding) and sharding.mesh.size > 1
    return sharding if several else None  # pyright: ignore[reportReturnType]


def _state_sharding(x: Any, param: Any) -> NamedSharding | None:
    """The sharding of an array that `init` makes outside `jax.jit`: that of a parameter of its shape."""
    own = _sharding_of(x)
    if own is not None or param is None or x.shape != param.shape:
        return own
    return _sharding_of(param)


def _spec(sharding: NamedSharding) -> str:
    axes = list(sharding.spec)
    while axes and axes[-1] is None:
        axes.pop()
    return f"P({', '.join(map(repr, axes))})" if axes else "replicated"
