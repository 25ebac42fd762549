"""Devices of a mesh share the work on bases: the same numbers, an eighth of the work and of the state.

On an Explicit mesh every exchange is written out, so its collectives are counted: into the basis, back
from it, in learning and in a refresh, two all-to-alls for each axis of the matrices that is sharded. On
an Auto mesh XLA chooses them. Products and decompositions are counted in the program of one device.

`make meshes` runs the whole product of bases, layouts and kinds of axes. Otherwise one basis runs in all
layouts of an Explicit mesh, and of the other cells an eighth.
"""

import functools
import os
import re
import zlib
from collections import Counter
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives, products
from gradtx import in_basis

LINE, GRID = ((8,), ("x",)), ((4, 2), ("x", "y"))
LEAVES, STEPS = 8, 3
WHOLE = bool(os.environ.get("MESHES"))
# The mesh, the spec, how many axes of the matrices are sharded, and whether devices hold the same.
LAYOUTS = {
    "replicated": (LINE, P(), 0, True),
    "first axis": (LINE, P("x"), 1, False),
    "last axis": (LINE, P(None, "x"), 1, False),
    "two axes": (GRID, P("x", "y"), 2, False),
    "sharded and replicated": (GRID, P("x"), 1, True),
    "layer axis": (LINE, P("x"), 0, False),
    "last axis of a stack": (LINE, P(None, None, "x"), 1, False),
    "layer axis and last axis": (GRID, P("x", None, "y"), 1, False),
}
# A transformation in each basis, and how many times a step exchanges what is sharded.
ADAM = gradtx.scale_by_adam(0.8, 0.9)
BASES = {
    "eigenbasis": (lambda: in_basis(gradtx.eigenbasis(0.8, every=2), ADAM), 4),
    "at every step": (lambda: in_basis(gradtx.eigenbasis(0.8, every=1), ADAM), 3),
    "kl": (lambda: in_basis(gradtx.eigenbasis(0.8, every=2, statistics="kl"), ADAM), 4),
    # The roots are those of sums with more than 24 gradients of each matrix, which have full rank.
    "whitening": (lambda: in_basis(gradtx.whitening(1.0, every=2, eps=1e-2), gradtx.identity()), 4),
    "fitted": (lambda: in_basis(gradtx.fitted_whitening(0.1), gradtx.identity()), 3),
    "blocks": (lambda: in_basis(gradtx.blocked(gradtx.eigenbasis(0.8, every=2), 8), ADAM), 4),
}


def gradient(rng, shape):
    """A matrix whose singular values are well apart, and none of them is far below the others."""
    rows, columns = np.linalg.qr(rng.normal(size=shape[::-1]))[0].T, rng.normal(size=shape)
    return 1.2 ** np.arange(shape[0])[:, None] * (rows + 0.05 * columns)


def is_stack(layout):
    return "layer" in layout or "stack" in layout


def trees(name, stacked):
    """The parameters and some gradients, as leaves or as one stack.

    The eigenvectors of a gradient's Gram matrices are its own only if none of its singular values is 0.
    """
    shape = (16, 24) if name in ("whitening", "fitted") else (16, 16)
    rngs = [np.random.default_rng(i) for i in range(LEAVES)]
    for _ in range(STEPS + 1):
        xs = [jnp.asarray(gradient(rng, shape), "float32") for rng in rngs]
        if stacked:
            yield {"stack": jnp.stack(xs)}
        else:
            yield {f"w{i}": x for i, x in enumerate(xs)}


def mesh_of(layout, kind):
    sizes, names = LAYOUTS[layout][0]
    return jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(sizes))


@functools.cache
def alone(name, stacked):
    """The updates and the states of a few steps on one device, and the program of a step."""
    tx, (params, *gs) = BASES[name][0](), trees(name, stacked)
    state = tx.init(params)
    program = jax.jit(tx.update).lower(params, state, params).compile()
    done = []
    for g in gs:
        updates, state = program(g, state, params)
        done.append((updates, state))
    return done, program.as_text()


@functools.cache
def on_mesh(name, layout, kind):
    tx, (params, *gs) = BASES[name][0](), trees(name, is_stack(layout))
    mesh = mesh_of(layout, kind)
    shardings = {key: NamedSharding(mesh, LAYOUTS[layout][1]) for key in params}
    params = jax.device_put(params, shardings)
    of_state = gradtx.state_shardings(tx, params)
    state = jax.device_put(tx.init(params), of_state)
    program = jax.jit(tx.update).lower(params, state, params).compile()
    done = []
    for g in gs:
        updates, state = program(jax.device_put(g, shardings), state, params)
        done.append((updates, state))
        if kind == "Auto" and not find_spec("jax.experimental.shard_alike"):
            state = jax.device_put(state, of_state)
    return done, program.as_text(), (shardings, of_state), of_state


def runs(name, layout, kind):
    """Whether this cell of the product runs."""
    share = zlib.crc32(f"{name} {layout} {kind}".encode()) % 8 == 0
    return WHOLE or share or (name == "eigenbasis" and kind == "Explicit")


CELLS = [
    (name, layout, kind)
    for kind in ("Explicit", "Auto")
    for name in BASES
    for layout in LAYOUTS
    if runs(name, layout, kind)
]
cells = pytest.mark.parametrize(("name", "layout", "kind"), CELLS, ids=map(", ".join, CELLS))


def decompositions(text):
    """How many matrices a device decomposes, by their size."""
    found = Counter()
    for line in text.splitlines():
        if "custom-call" in line and re.search("lapack_s(geqrf|syevd)", line):
            count, size = map(int, re.search(r"f32\[(\d+),(\d+),\d+\]", line).groups())
            found[size] += count
    return found


@cells
def test_bases_on_a_mesh_give_the_numbers_of_one_device(name, layout, kind):
    want, _ = alone(name, is_stack(layout))
    got, _, shardings, _ = on_mesh(name, layout, kind)
    for (u, state), (want_u, want_state) in zip(got, want, strict=True):
        for x, w in zip(*map(jax.tree.leaves, (u, want_u)), strict=True):
            # Products of matrices and decompositions of others at once are rounded differently.
            atol = 64 * x.shape[-1] * np.finfo("float32").eps * float(jnp.max(jnp.abs(w)))
            np.testing.assert_allclose(x, w, rtol=0, atol=atol)
        assert jax.tree.structure(state) == jax.tree.structure(want_state)
        if kind == "Explicit" or find_spec("jax.experimental.shard_alike"):
            for x, s in zip(*map(jax.tree.leaves, ((u, state), shardings)), strict=True):
                assert x.sharding.is_equivalent_to(s, x.ndim), (x.shape, x.sharding.spec, s.spec)


@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name, layout, kind in CELLS if kind == "Explicit"]
)
def test_an_exchange_takes_two_all_to_alls_for_each_sharded_axis(name, layout):
    _, text, _, _ = on_mesh(name, layout, "Explicit")
    found = Counter(c.kind for c in collectives(text))
    *_, sharded, replicas = LAYOUTS[layout]
    want = {"all-to-all": 2 * sharded * BASES[name][1]} if sharded else {}
    # Devices that hold the same matrices share a refresh.
    want |= {"all-gather": 1} if replicas else {}
    assert found == want


@cells
def test_a_device_does_an_eighth_of_the_work(name, layout, kind):
    _, whole = alone(name, is_stack(layout))
    _, text, _, _ = on_mesh(name, layout, kind)
    assert decompositions(text) == {size: n // 8 for size, n in decompositions(whole).items()}
    assert decompositions(text) or name == "fitted"
    if layout == "replicated" and kind == "Explicit":
        return  # all devices compute the products, see above
    share = 4 if layout == "sharded and replicated" and kind == "Explicit" else 8
    assert products(text).flops <= 1.02 * products(whole).flops / share


@pytest.mark.parametrize("layout", [x for x in LAYOUTS if x != "replicated"])
def test_a_device_keeps_its_share_of_the_state(layout):
    _, _, _, of_state = on_mesh("eigenbasis", layout, "Explicit")
    state = jax.eval_shape(
        BASES["eigenbasis"][0]().init, next(trees("eigenbasis", is_stack(layout)))
    )
    share = 4 if layout == "sharded and replicated" else 8
    for x, s in zip(*map(jax.tree.leaves, (state.basis, of_state.basis)), strict=True):
        assert share * np.prod(s.shard_shape(x.shape)) == np.prod(x.shape)
