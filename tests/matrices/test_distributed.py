"""Optimizers of matrices on meshes: collectives in the compiled step, and the numbers of one device.

Every layout is crossed with every optimizer and with both kinds of mesh axes. The collectives of matrix
size are counted in the program that XLA optimized, with loops multiplied (`benchmarks/hlo.py`).
`make meshes` counts every cell, and `make test` a share of them.
"""

import functools
import itertools
import os
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rounding import roundings
from shares import share

import gradtx
from benchmarks.hlo import collectives, products
from gradtx._matrices import members, mesh_stage
from gradtx._matrices.plans import Plan

SHAPE = (32, 64)
ONE, TWO = ((8,), ("x",)), ((4, 2), ("x", "y"))
# For every layout: the mesh, the leaves with their specs, and the collectives of matrix size.
EXCHANGED, GATHERED = {"all-to-all": 2}, {"all-gather": 1}
LAYOUTS = {
    "last axis": (ONE, [(SHAPE, P(None, "x"))] * 16, EXCHANGED),
    "first axis": (ONE, [(SHAPE, P("x", None))] * 16, EXCHANGED),
    "both axes": (TWO, [(SHAPE, P("x", "y"))] * 16, EXCHANGED),
    "replicated": (ONE, [(SHAPE, P())] * 16, GATHERED),
    "last axis with replicas": (TWO, [(SHAPE, P(None, "x"))] * 16, EXCHANGED | GATHERED),
    "stack, by layer": (ONE, [((16, *SHAPE), P("x"))], {}),
    "stack, last axis": (ONE, [((16, *SHAPE), P(None, None, "x"))], EXCHANGED),
    "stacks of 10, last axis": (ONE, [((10, *SHAPE), P(None, None, "x"))] * 2, EXCHANGED),
    "13 matrices": (ONE, [(SHAPE, P(None, "x"))] * 13, EXCHANGED),
    "3 matrices": (ONE, [(SHAPE, P(None, "x"))] * 3, EXCHANGED),
    "3 matrices with replicas": (TWO, [(SHAPE, P(None, "x"))] * 3, EXCHANGED),
}
OPTIMIZERS = {
    # One polynomial keeps programs small. What the devices exchange does not depend on the number.
    name: functools.partial(getattr(gradtx, name), 0.1, steps=1)
    for name in ("muon", "normuon", "adamuon", "scion")
}
KINDS = {"Auto": AxisType.Auto, "Explicit": AxisType.Explicit}
CELLS = [*itertools.product(LAYOUTS, OPTIMIZERS, KINDS)]
# `make test` counts Muon in every layout, every optimizer in one layout, and a share of the other cells,
# by their names. ALL_MESHES=1 and ROWS=all count all of them.
REPRESENTATIVE = "both axes"
OTHERS = [cell for cell in CELLS if cell[1] != "muon" and cell[0] != REPRESENTATIVE]
LEFT_OUT = {*OTHERS} - {*share(OTHERS, "collectives", 5)}


def mesh_of(layout, kind):
    sizes, names = LAYOUTS[layout][0]
    return jax.make_mesh(sizes, names, axis_types=(KINDS[kind],) * len(names))


def shapes_of(layout, kind):
    mesh = mesh_of(layout, kind)
    return {
        f"w{i}": jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for i, (shape, spec) in enumerate(LAYOUTS[layout][1])
    }


def compiled(tx, params):
    """The text of the compiled step, whose results are sharded like its arguments."""
    state = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(tx.init, params),
        gradtx.state_shardings(tx, params),
    )
    out = jax.tree.map(lambda x: x.sharding, (params, state))

    def step(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return gradtx.apply_updates(params, updates), state

    lowered = jax.jit(step, out_shardings=out).lower(params, state, params)
    return lowered.compile({"xla_backend_optimization_level": 0}).as_text()


@pytest.mark.parametrize(("layout", "name", "kind"), CELLS)
def test_a_group_takes_as_few_collectives_as_its_layout_needs(layout, name, kind):
    if (layout, name, kind) in LEFT_OUT and not os.environ.get("ALL_MESHES"):
        pytest.skip(
            "a share of these cells runs, and all of them with ALL_MESHES=1, which takes minutes"
        )
    params = shapes_of(layout, kind)
    text = compiled(OPTIMIZERS[name](), params)
    size = sum(4 * x.size for x in params.values()) / 8  # what a device holds of all matrices
    large, small = Counter(), Counter()
    for found in collectives(text):
        (large if found.bytes > size / 2 else small)[found.kind] += found.runs
    expected = LAYOUTS[layout][2]
    if layout == "both axes" and kind == "Explicit" and name == "normuon":
        expected = {"all-to-all": 4}  # the rows travel along, which only one of the axes shards
    assert large == expected
    # The rows of NorMuon, over one mesh axis after another, and the two sums of AdaMuon's norms.
    assert small.total() <= 4, small
    share = -(-sum(x.shape[0] if x.ndim == 3 else 1 for x in params.values()) // 8)
    m, n = SHAPE
    assert products(text).flops == share * (4 * m * m * n + 2 * m**3)


def test_the_table_has_every_cell():
    """The layouts of the page on scaling, with every optimizer and both kinds of mesh axes."""
    layouts = {
        *("last axis", "first axis", "both axes", "replicated", "last axis with replicas"),
        *("stack, by layer", "stack, last axis", "stacks of 10, last axis"),
        *("13 matrices", "3 matrices", "3 matrices with replicas"),
    }
    names, kinds = {"muon", "normuon", "adamuon", "scion"}, {"Auto", "Explicit"}
    (mark,) = test_a_group_takes_as_few_collectives_as_its_layout_needs.pytestmark
    assert {*mark.args[1]} == {*itertools.product(layouts, names, kinds)}
    assert len(LEFT_OUT) <= 48


NUMBERS = ("both axes", "last axis with replicas", "stack, last axis")


normuon_step = jax.jit(OPTIMIZERS["normuon"]().update)


@functools.cache
def two_steps_alone(*shapes):
    """The leaves, and the updates and the state of the second step on one device."""
    params = {
        f"w{i}": jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)
    }
    updates, state = normuon_step(params, OPTIMIZERS["normuon"]().init(params), params)
    return params, normuon_step(updates, state, params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", NUMBERS)
def test_two_steps_give_one_devices_numbers(layout, kind):
    shapes = dict([*shapes_of(layout, kind).items()][:3])  # fewer than devices, so padded
    alone, want = two_steps_alone(*[x.shape for x in shapes.values()])
    put = {name: jax.device_put(x, shapes[name].sharding) for name, x in alone.items()}
    updates, state = normuon_step(put, OPTIMIZERS["normuon"]().init(put), put)
    got = normuon_step(updates, state, put)
    types = [jax.tree.map(lambda x: str(jax.typeof(x)), x) for x in (state, got[1])]
    assert types[0] == types[1]
    for update, param in zip(got[0].values(), put.values(), strict=True):
        assert update.sharding.is_equivalent_to(param.sharding, param.ndim)
    # One step of Newton-Schulz has three products of at most 64 terms, whose factors are at most 8.3,
    # 23.6 and 17.3. Updates are about the rate 0.1, and rows are averages of entries below 1.
    error = 0.1 * roundings(3 * 64 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (want, got)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)


@pytest.mark.parametrize("tx", [gradtx.scale_by_neuron_rms(), gradtx.muon(0.1, steps=1)], ids=repr)
def test_a_stack_whose_layers_are_sharded_is_nowhere_cut(tx):
    """On an Explicit mesh, JAX refuses to take one layer out of a sharded stack."""
    mesh = jax.make_mesh((8,), ("x",))
    x = jax.ShapeDtypeStruct((8, 4, 8), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    updates, _ = jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), {"stack": x})
    assert updates["stack"].sharding.spec[0] == "x"


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_group_goes_through_in_chunks(kind, monkeypatch):
    """A device holds one whole matrix at a time, so 16 matrices take two exchanges on 8 devices."""
    one_matrix = 4 * SHAPE[0] * SHAPE[1]
    monkeypatch.setattr(mesh_stage, "Plan", functools.partial(Plan, cap=one_matrix))
    monkeypatch.setattr(members, "GROUP_BYTES", one_matrix)
    shapes = shapes_of("last axis", kind)
    tx = gradtx.muon(0.1, steps=1)
    found = Counter(x.kind for x in collectives(compiled(tx, shapes)) for _ in range(x.runs))
    assert found["all-to-all"] == 4
    alone = {name: jax.random.normal(jax.random.key(i), SHAPE) for i, name in enumerate(shapes)}
    put = {name: jax.device_put(x, shapes[name].sharding) for name, x in alone.items()}
    step = jax.jit(lambda params: tx.update(params, tx.init(params), params)[0])
    # The bound is that of `test_two_steps_give_one_devices_numbers`.
    error = 0.1 * roundings(3 * 64 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (step(alone), step(put))), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)


def test_a_mesh_with_both_kinds_of_axes_is_refused():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto, AxisType.Explicit))
    w = jax.ShapeDtypeStruct(SHAPE, jnp.float32, sharding=NamedSharding(mesh, P("x", None)))
    tx = gradtx.orthogonalize_newton_schulz()
    with pytest.raises(ValueError, match=r"axes are of two kinds \(x: Auto, y: Explicit\)"):
        jax.jit(lambda w: tx.update(w, tx.init(w))).lower(w)


@pytest.mark.parametrize("kind", KINDS)
def test_sweeps_and_derivatives_pass_through_an_exchange(kind):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(KINDS[kind],))
    alone = {name: jax.random.normal(jax.random.key(i), (8, 16)) for i, name in enumerate("ab")}

    def loss(rate, params):
        tx = gradtx.chain(gradtx.orthogonalize_newton_schulz(steps=1), gradtx.scale(rate))
        updates, _ = tx.update(params, tx.init(params), params)
        return jnp.sum(jnp.sin(params["a"] + updates["a"]) + jnp.sin(params["b"] + updates["b"]))

    f = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (0, None)))
    rates = jnp.array([0.1, 0.2])
    want = f(rates, alone)
    got = f(rates, jax.device_put(alone, NamedSharding(mesh, P(None, "x"))))
    # Sums of at most 128 terms of size 1, each after three products of at most 16 terms.
    error = roundings(128 + 3 * 16 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)


@pytest.mark.parametrize(
    ("shape", "spec", "kinds"),
    [
        ((12, 10), P("x", "y"), EXCHANGED),  # the lengths are no multiples of all eight devices
        ((10, 12), P("y", "x"), EXCHANGED),
        ((8, 16), P(("x", "y")), EXCHANGED),
        # The devices trade places first.
        ((8, 16), P(None, ("y", "x")), EXCHANGED | {"collective-permute": 2}),
        ((8, 6), P("x"), EXCHANGED | GATHERED),
    ],
    ids=str,
)
def test_exchanges_over_both_axes_at_once_give_one_devices_numbers(shape, spec, kinds):
    """For 13 matrices, three of which are padding on eight devices, and for the rows of NorMuon."""
    alone = {f"w{i}": jax.random.normal(jax.random.key(i), shape) for i in range(13)}
    mesh = jax.make_mesh(*TWO, axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, spec)
    put = jax.device_put(alone, sharding)
    tx = gradtx.orthogonalize_newton_schulz(steps=1)
    f = jax.jit(lambda g: tx.update(g, ())[0], out_shardings=sharding)
    text = f.lower(put).compile({"xla_backend_optimization_level": 0}).as_text()
    assert Counter(x.kind for x in collectives(text) for _ in range(x.runs)) == kinds
    got = normuon_step(put, OPTIMIZERS["normuon"]().init(put), put)
    want = normuon_step(alone, OPTIMIZERS["normuon"]().init(alone), alone)
    # The bound is that of `test_two_steps_give_one_devices_numbers`.
    error = 0.1 * roundings(3 * 64 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (want, got)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "spec", "kinds"),
    [
        ((6, 8, 16), P(None, "x", "y"), {"all-to-all": 4}),
        ((10, 8, 16), P(None, None, "y"), EXCHANGED | GATHERED),
        ((12, 8, 16), P("x", None, "y"), EXCHANGED),
    ],
    ids=str,
)
def test_stacks_that_are_padded_over_each_mesh_axis_give_one_devices_numbers(
    shape, spec, kinds, kind
):
    mesh = jax.make_mesh(*TWO, axis_types=(KINDS[kind],) * 2)
    sharding = NamedSharding(mesh, spec)
    alone = {"stack": jax.random.normal(jax.random.key(0), shape)}
    put = jax.device_put(alone, sharding)
    tx = gradtx.orthogonalize_newton_schulz(steps=1)
    f = jax.jit(lambda g: tx.update(g, ())[0], out_shardings=sharding)
    text = f.lower(put).compile({"xla_backend_optimization_level": 0}).as_text()
    both = kind == "Explicit" and spec == P(None, "x", "y")
    found = Counter(x.kind for x in collectives(text) for _ in range(x.runs))
    assert found == (EXCHANGED if both else kinds)
    if "all-gather" in kinds:
        # Of 10 matrices, each of four replicas updates three or fewer on two devices, which hold four of
        # them. Three go back to the other replicas, and the fourth one is padding.
        (gathered,) = [x for x in collectives(text) if x.kind == "all-gather"]
        assert gathered.bytes == 4 * 12 * 8 * 16 // 2
    got = normuon_step(put, OPTIMIZERS["normuon"]().init(put), put)
    want = normuon_step(alone, OPTIMIZERS["normuon"]().init(alone), alone)
    # The bound is that of `test_two_steps_give_one_devices_numbers`.
    error = 0.1 * roundings(3 * 64 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (want, got)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)
