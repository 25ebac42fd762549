"""What bases cost in communication, in words, and what to do about leaves that are gathered whole."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from gradtx._bases.basis import Basis
from gradtx._bases.leaf import BasisLeaf, basis_leaves
from gradtx._bases.shared import SharedLeaves
from gradtx._core.dtypes import compute_dtype
from gradtx._core.layouts import Advice, with_others
from gradtx._core.sharding import is_explicit, named_axes
from gradtx._core.trees import Structure
from gradtx._matrices.fallbacks import advice, and_others, is_gathered
from gradtx._matrices.hops import needed
from gradtx._matrices.members import known_axes
from gradtx._matrices.parts import unpack
from gradtx._matrices.plans import Plan


class Group:
    """Leaves whose bases the devices share, for what is said about them.

    Args:
        basis: the basis.
        mesh: the mesh.
        known: whether a compiled step is told how the leaves are sharded.
        group: what the leaves have in common.
    """

    def __init__(self, basis: Basis, mesh: Any, known: bool, group: Any) -> None:
        self.basis, self.mesh, self.known, self.group = basis, mesh, known, group
        self.leaves: dict[int, BasisLeaf] = {}
        self.layouts: dict[int, Any] = {}

    @property
    def plan(self) -> Plan:
        group = self.group if self.known else self.group._replace(spec=None)
        return Plan(None, group, tuple(self.layouts.values()), self.mesh)

    def gathered(self) -> list[int]:
        """The leaves that the compiler gathers, since it is not told how they are sharded."""
        plan = self.plan
        return [] if self.known else [i for i, x in self.layouts.items() if is_gathered(plan, x)]

    def words(self) -> str:
        """The collective operations of the group; an empty text if there are none."""
        if not self.known:
            return "exchanged by the compiler"
        basis, layouts = self.basis, self.layouts
        shared = SharedLeaves(basis, self.leaves, layouts, self.group, self.mesh, None)
        state = jax.tree.leaves(jax.eval_shape(shared.one.init))
        sizes = dict(self.mesh.shape)
        stacks = math.prod(sizes[name] for name in self.group.batch)
        count = sum(x.units for x in layouts.values()) // stacks
        hops = needed(self.group.hops(sizes, 1), count)
        sharded = sum(hop.axes[0] is not None for hop in hops)
        shared_refresh = not basis.is_fixed and len(hops) > sharded
        always = basis.due(jnp.ones((), jnp.int32)) is True
        turns = 2 if shared.turns else 0
        often = turns + (always or shared.changes("learn", shared.one, state))
        words = [f"{2 * sharded * often} all-to-alls"] if sharded and often else []
        seldom = [f"{2 * sharded} all-to-alls"] if sharded and not always else []
        seldom += ["1 all-gather"] if shared_refresh else []
        if seldom and not basis.is_fixed:
            words.append(" and ".join(seldom) + " in a refresh")
        return ", ".join(words) + (with_others(len(layouts) - 1) if words else "")


def groups_of(tx: Any, leaves: list[Any], structure: Structure) -> tuple[list[Group], list[int]]:
    """The groups of leaves that devices share, and the sharded leaves that are gathered whole.

    Args:
        tx: the transformation in a basis.
        leaves: the shapes of the parameters, with their shardings, or None.
        structure: the structure of their tree.
    """
    found: dict[Any, Group] = {}
    whole: list[int] = []
    basis = tx.basis.at(jnp.zeros((), jnp.int32))
    for i, leaf in enumerate(basis_leaves(basis, tx.axes, leaves, structure)):
        sharding = getattr(leaves[i], "sharding", None)
        if leaf is None or not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1:
            continue
        mesh: Any = sharding.mesh
        spec = named_axes(sharding.spec, mesh, len(leaf.shape))
        turns = leaf.shape_inside == leaf.shape
        is_complex = jnp.issubdtype(leaf.dtype, jnp.complexfloating)
        if any(spec) and (is_complex or not turns):
            whole.append(i)
        if is_complex:
            continue
        known = is_explicit(mesh) or known_axes(leaf.axes, leaf.shape, mesh) is not None
        state = jax.tree.leaves(jax.eval_shape(leaf.init))
        parts = jax.eval_shape(lambda own, x=leaf: unpack(own, x.state_shapes), state)
        arrays = [x for part in parts for x in part]
        sizes = dict(mesh.shape)
        group, layout = leaf.layout(spec, compute_dtype(leaf.leaf), arrays, sizes)
        one = found.setdefault((group, mesh, known, turns), Group(basis, mesh, known, group))
        one.leaves[i], one.layouts[i] = leaf, layout
    return list(found.values()), whole


def gathering(program: Any, leaves: list[Any], shardings: list[Any]) -> Advice:
    """What to do about sharded leaves, whose bases the devices do not share (`layouts.py`)."""
    names, low = program.lowering.paths, program.lowering
    whole: dict[int, None] = {}
    by_compiler: dict[int, None] = {}
    for stage in low.trees:
        if isinstance(getattr(getattr(stage, "tx", None), "basis", None), Basis):
            shapes = [
                jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s) if own else None
                for x, s, own in zip(leaves, shardings, stage.owned, strict=True)
            ]
            groups, own = groups_of(stage.tx, shapes, low.structure)
            whole.update(dict.fromkeys(own))
            by_compiler.update(dict.fromkeys(i for group in groups for i in group.gathered()))
    if by_compiler:
        i, *others = sorted(by_compiler)
        return Advice([i, *others], "gathered whole", advice(names[i], len(others)))
    if not whole:
        return Advice([])
    i, *others = sorted(whole)
    return Advice(
        [i, *others],
        "gathered whole",
        f"`in_basis` gathers {and_others(names[i], len(others))} whole in every step, since devices do "
        "not share the change to a basis in which matrices are smaller, as that of `galore`, nor bases "
        "of complex matrices. Where this takes too long, use `soap`, `muon` or another optimizer whose "
        "matrices the devices share.",
    )


def sends(tx: Any, leaves: list[Any], structure: Structure) -> dict[int, str]:
    """For the leaves that devices exchange, the collective operations of a step, for `routing`.

    Args:
        tx: the transformation in a basis.
        leaves: the shapes of the parameters, with their shardings, or None.
        structure: the structure of their tree.
    """
    groups, whole = groups_of(tx, leaves, structure)
    gone = {*whole, *(i for group in groups for i in group.gathered())}
    said = [(i, group.words()) for group in groups for i in group.leaves if i not in gone]
    return {i: words for i, words in said if words}
