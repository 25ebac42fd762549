"""Layouts in which a step is slow or moves what it returns are said once, with what to do."""

import warnings
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from gradtx._matrices import staged

LINE, GRID = ((8,), ("x",)), ((4, 2), ("x", "y"))
# The mesh, the shape and the spec of a stack, and the mesh axis over which a compiled step shards its
# layers if JAX cannot give an array the sharding of another one.
STACKS = [
    (LINE, (8, 8, 16), P(), "x"),
    (LINE, (8, 8, 16), P(None, None, "x"), "x"),
    (LINE, (8, 8, 16), P("x"), None),
    (GRID, (8, 8, 16), P(None, None, "y"), "x"),
    (GRID, (8, 8, 16), P("x", None, "y"), "x"),
    (GRID, (2, 8, 16), P(None, None, "y"), "y"),
]


def said(f, *args):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        f(*args)
    return [str(x.message) for x in found]


def placed_stack(mesh, shape, spec):
    mesh = jax.make_mesh(*mesh, axis_types=(AxisType.Auto,) * len(mesh[0]))
    return jax.device_put(jnp.ones(shape), NamedSharding(mesh, spec))


needs_shard_alike = pytest.mark.skipif(
    not find_spec("jax.experimental.shard_alike"),
    reason="JAX 0.12 cannot ask for the same sharding",
)


@needs_shard_alike
@pytest.mark.parametrize(("mesh", "shape", "spec", "_"), STACKS)
def test_the_updates_and_the_state_of_a_stack_lie_as_the_parameter(mesh, shape, spec, _):
    w = placed_stack(mesh, shape, spec)
    tx = gradtx.normuon(0.1, steps=1)
    state = jax.device_put(tx.init(w), gradtx.state_shardings(tx, w))
    step = jax.jit(tx.update)
    updates, new = step(w, state, w)
    assert updates.sharding.is_equivalent_to(w.sharding, 3)
    for x, old in zip(*map(jax.tree.leaves, (new, state)), strict=True):
        assert x.sharding.is_equivalent_to(old.sharding, x.ndim)
    step(updates, new, w)
    assert step._cache_size() == 1
    tx = gradtx.orthogonalize_newton_schulz(steps=1)
    without = jax.jit(lambda g: tx.update(g, ())[0])(w)
    assert without.sharding.is_equivalent_to(w.sharding, 3)


@needs_shard_alike
def test_stacks_of_one_shape_keep_their_several_shardings():
    specs = P(None, None, "y"), P(None, "y"), P("x"), P()
    params = [placed_stack(GRID, (8, 8, 16), spec) for spec in specs]
    tx = gradtx.normuon(0.1, steps=1)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    for u, p in zip(updates, params, strict=True):
        assert u.sharding.is_equivalent_to(p.sharding, 3)


@pytest.mark.parametrize(("mesh", "shape", "spec", "moved"), STACKS)
def test_where_jax_cannot_keep_a_stack_it_is_said_and_stays_after_place(
    mesh, shape, spec, moved, monkeypatch
):
    monkeypatch.setattr(staged, "shard_alike", None)
    jax.clear_caches()
    w = placed_stack(mesh, shape, spec)
    tx = gradtx.orthogonalize_newton_schulz(steps=1)
    sentences = said(tx.init, w)
    assert len(sentences) == (moved is not None)
    assert all(f"layers sharded over '{moved}'" in x for x in sentences)
    effects = [row.effects for row in gradtx.routing(tx, w)]
    assert [x.endswith(f"layers move to '{moved}'") for x in effects] == [moved is not None]
    updates = jax.jit(lambda g: tx.update(g, (), g)[0])(w)
    assert updates.sharding.is_equivalent_to(w.sharding, 3) == (moved is None)
    if moved is not None:
        assert updates.sharding.spec == P(moved)
        placed = gradtx.place(tx, w)
        assert not said(placed.init, w)
        updates = jax.jit(lambda g: placed.update(g, (), g)[0])(w)
        assert updates.sharding.is_equivalent_to(w.sharding, 3)
    jax.clear_caches()  # of programs in which nothing is sharded alike


def test_init_with_sharded_parameters_says_once_what_the_compiled_step_gathers():
    mesh = jax.make_mesh(*GRID, axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, P("y"))
    params = {f"w{i}": jax.device_put(jnp.ones((8, 8, 16)), sharding) for i in range(8)}
    tx = gradtx.muon(0.1)
    (sentence,) = said(tx.init, params)
    assert "gathers `w0` and 7 other leaves whole in every step" in sentence
    assert not said(tx.init, params)
    assert not said(gradtx.state_shardings, tx, params)
    (sentence,) = said(gradtx.accumulate(gradtx.muon(0.2), every=2).init, params)
    assert "gathers `w0`" in sentence
    assert not said(gradtx.place(gradtx.muon(0.3), params).init, params)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P(None, "x"), P("x"), P()])
def test_matrices_that_a_basis_makes_smaller_are_said_once_to_be_gathered(kind, spec):
    """Devices share the bases of soap and shampoo, and the refresh of galore's."""
    mesh = jax.make_mesh(*LINE, axis_types=(kind,))
    w = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, spec))
    params = {"v": w, "w": w}
    tx = gradtx.galore(0.1, 4)
    for own in (tx, gradtx.accumulate(gradtx.galore(0.2, 4), every=2)):
        sentences = said(gradtx.state_shardings, own, params)
        assert [x.startswith("`in_basis`") for x in sentences] == [True] * (spec != P())
        assert all("`v` and 1 other leaf whole" in x for x in sentences)
    assert not said(gradtx.state_shardings, tx, params)
    routes = gradtx.routing(tx, params)
    assert all(("gathered whole" in row.effects) == (spec != P()) for row in routes)
    assert any("use `soap`" in note for note in routes.notes) == (spec != P())
    for own in (gradtx.soap(0.1), gradtx.shampoo(0.1)):
        assert not said(gradtx.state_shardings, own, params)
        words = "6 all-to-alls, 2 all-to-alls in a refresh" if spec != P() else "1 all-gather in a"
        words = words if kind == AxisType.Explicit else "exchanged by the compiler"
        assert all(words in row.effects for row in gradtx.routing(own, params))


def test_bases_that_the_compiler_gathers_are_said_once_and_are_shared_after_place():
    mesh = jax.make_mesh(*GRID, axis_types=(AxisType.Auto,) * 2)
    w = jax.device_put(jnp.ones((8, 8, 16)), NamedSharding(mesh, P("y")))
    tx = gradtx.soap(0.1)
    (sentence,) = said(tx.init, {"w": w})
    assert "gathers `w` whole in every step" in sentence and "gradtx.place" in sentence
    (row,) = gradtx.routing(tx, {"w": w})
    assert "gathered whole" in row.effects
    placed = gradtx.place(gradtx.soap(0.2), {"w": w})
    assert not said(placed.init, {"w": w})
    (row,) = gradtx.routing(placed, {"w": w})
    assert "gather" not in row.effects.replace("1 all-gather in a refresh", "")
