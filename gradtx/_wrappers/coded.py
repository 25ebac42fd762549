"""A state whose large arrays are kept in a code: which arrays these are, encoding, and decoding.

A part of a state that has one array per parameter becomes `Coded(plain, code)`. Its arrays lie in
`code`, or in `plain` if they are not coded, and `optax.MaskedNode()` stands at their places in the other
tree. So every tree in the new state is a tree like the parameters, as it was before.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from gradtx._core.codecs import Codec, code_structure
from gradtx._core.places import Named, Slot
from gradtx._core.random_bits import seed_of
from gradtx._core.trees import Structure


class Coded(NamedTuple):
    """A part of a state with one array per parameter, of which the large arrays are coded.

    Attributes:
        plain: a tree like the parameters with the arrays that are not coded.
        code: the codes of all others. If the code of one array is a NamedTuple, this is the same
            NamedTuple, with a tree like the parameters in every field.
    """

    plain: Any
    code: Any


class Kept(NamedTuple):
    """What is kept of one array: the array itself, or the parts of its code; the other is a gap."""

    plain: Any
    parts: tuple[Any, ...]


def joined(codec: Codec, kept: list[Kept], structure: Structure) -> Coded:
    """What is kept of all arrays, as trees like the parameters."""
    form = code_structure(codec)
    columns = [[x.parts[k] for x in kept] for k in range(form.num_leaves)]
    code = form.unflatten([structure.unflatten(column) for column in columns])
    return Coded(structure.unflatten([x.plain for x in kept]), code)


def split(codec: Codec, coded: Coded) -> tuple[list[Kept], Structure]:
    """What is kept of every array, and the structure of the parameters."""
    plain, structure = jax.tree.flatten(coded.plain, is_leaf=_is_gap)
    trees = code_structure(codec).flatten_up_to(coded.code)
    columns = [structure.flatten_up_to(tree) for tree in trees]
    parts = zip(*columns, strict=True) if columns else [()] * len(plain)
    return [Kept(x, p) for x, p in zip(plain, parts, strict=True)], structure


def decoded(codec: Codec, state: Any) -> Any:
    """The state with arrays in place of their codes."""

    def decode(node: Any) -> Any:
        if not isinstance(node, Coded):
            return node
        kept, structure = split(codec, node)
        form = code_structure(codec)
        return structure.unflatten(
            [x.plain if _is_plain(x) else _decode(codec, form.unflatten(x.parts)) for x in kept]
        )

    return jax.tree.map(decode, state, is_leaf=_is_coded)


@dataclasses.dataclass
class Encoder:
    """The arrays of one state are encoded one after the other, each with a seed of its own.

    Args:
        codec: the codec.
        min_size: the number of entries from which on an array is coded.
        count: how often the state was encoded so far.
        arrays: how many arrays of the state were encoded so far.
    """

    codec: Codec
    min_size: int
    count: jax.Array
    arrays: int = 0

    def first(self, state: Any, places: Any, structure: Structure) -> Any:
        """A state before the first step.

        Args:
            state: the state.
            places: the state with places, which say where there is one array per parameter.
            structure: the structure of the parameters.
        """
        places = jax.tree.map(lambda x: x.public if isinstance(x, Named) else x, places)
        found, layout = jax.tree.flatten(places)
        parts = []
        for place, part in zip(found, layout.flatten_up_to(state), strict=True):
            if isinstance(place, Slot):
                kept = list(map(self._kept, structure.flatten_up_to(part)))
                parts.append(joined(self.codec, kept, structure))
            else:
                parts.append(self._searched(part, structure))
        return layout.unflatten(parts)

    def next(self, new: Any, old: Any, updated: list[bool]) -> Any:
        """A state after a step.

        Args:
            new: the state with arrays.
            old: the state before the step, with codes.
            updated: for each leaf of the parameters, whether it had a gradient. What is kept of all
                other leaves is taken from `old`, so that it stays the same bit for bit.
        """
        nodes, layout = jax.tree.flatten(old, is_leaf=_is_coded)
        parts = layout.flatten_up_to(new)
        for i, node in enumerate(nodes):
            if isinstance(node, Coded):
                before, structure = split(self.codec, node)
                arrays = structure.flatten_up_to(parts[i])
                kept = [
                    self._kept(x) if yes else b
                    for x, b, yes in zip(arrays, before, updated, strict=True)
                ]
                parts[i] = joined(self.codec, kept, structure)
        return layout.unflatten(parts)

    def _kept(self, x: Any) -> Kept:
        form = code_structure(self.codec)
        self.arrays += 1
        is_float32 = getattr(x, "dtype", None) == jnp.float32
        if not is_float32 or not x.ndim or x.size < self.min_size:
            return Kept(x, (None if x is None else optax.MaskedNode(),) * form.num_leaves)
        code = _encode(self.codec, x, seed_of(self.count, self.arrays))
        return Kept(optax.MaskedNode(), tuple(form.flatten_up_to(code)))

    def _searched(self, node: Any, structure: Structure) -> Any:
        """The state of a transformation of whole trees, with all trees like the parameters coded."""
        if _is_like_params(node, structure):
            kept = list(map(self._kept, structure.flatten_up_to(node)))
            return joined(self.codec, kept, structure)
        if isinstance(node, dict):
            return type(node)((k, self._searched(x, structure)) for k, x in node.items())
        if isinstance(node, tuple | list):
            kind: Any = type(node)
            inside = [self._searched(x, structure) for x in node]
            return kind(*inside) if hasattr(node, "_fields") else kind(inside)
        return node


def hidden_constants(state: Any) -> Any:
    """`state`, so that the compiler does not know its numbers where they are traced."""
    # One barrier for each array, since all results of a barrier vary over the same mesh axes.
    hide = jax.lax.optimization_barrier
    return jax.tree.map(lambda x: hide(x) if isinstance(x, Tracer) else x, state)


def _is_like_params(node: Any, structure: Structure) -> bool:
    """Whether this part of a state has one array per parameter."""
    # Where the tree is a single array, every array of the state looks like the only parameter.
    if structure.num_leaves == structure.num_nodes == 1:
        return getattr(node, "dtype", None) == jnp.float32 and node.ndim > 0
    try:
        leaves = structure.flatten_up_to(node)
    except (TypeError, ValueError):
        return False
    return all(x is None or _is_gap(x) or hasattr(x, "dtype") for x in leaves)


def _is_coded(x: Any) -> bool:
    return isinstance(x, Coded)


def _is_gap(x: Any) -> bool:
    return x is None or isinstance(x, optax.MaskedNode)


def _is_plain(kept: Kept) -> bool:
    return all(map(_is_gap, kept.parts))


@jax.jit
def _encode(codec: Codec, x: jax.Array, seed: jax.Array) -> Any:
    return codec.encode(x, seed)


@jax.jit
def _decode(codec: Codec, code: Any) -> jax.Array:
    return codec.decode(code)
