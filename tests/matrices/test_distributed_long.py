"""Few matrices that are much longer than wide: the devices share the work on each of them."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rounding import roundings

import gradtx
from benchmarks.hlo import collectives, products
from gradtx._matrices.staged import can_share_shardings

DEVICES, M, N = 8, 64, 1024
LAYOUTS = {
    "long axis": (P(None, "x"), (M, N), {}),
    "short axis": (P("x"), (M, N), {"all-to-all": 2}),
    "replicated": (P(), (M, N), {"all-gather": 1}),
    "tall, long axis": (P("x"), (N, M), {}),
}


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_huge_matrix_takes_a_sum_over_the_devices_for_each_restart(layout, kind):
    if kind == "Explicit" and layout not in ("short axis", "tall, long axis"):
        return  # these differ in nothing from the same layout on Auto axes
    spec, shape, moved = LAYOUTS[layout]
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(AxisType[kind],))
    sharding = NamedSharding(mesh, spec)
    x = jax.random.normal(jax.random.key(0), shape)
    # Three steps have one restart below 192 rows, as five steps have from 192 rows on.
    tx = gradtx.orthogonalize_newton_schulz(steps=3)
    step = jax.jit(lambda x: tx.update(x, tx.init(x), x)[0], out_shardings=sharding)
    put = jax.device_put(x, sharding)
    program = step.lower(put).compile({"xla_backend_optimization_level": 0})
    found = collectives(program.as_text())
    squares = [c for c in found if c.kind == "all-reduce" and c.bytes == 4 * M * M]
    assert sum(c.runs for c in squares) == 2
    # The norm of the matrix takes two numbers.
    assert all(c.bytes == 4 for c in found if c.kind == "all-reduce" and c not in squares)
    rest = Counter(c.kind for c in found if c.kind != "all-reduce")
    if kind == "Explicit" or layout != "short axis" or can_share_shardings():
        assert rest == moved
    # Two products of the long axis for each of two segments, shared; the others are of m x m matrices:
    # R R, Q Z, Z R and (Z R) Z in the first segment, and R R once more.
    assert products(program.as_text()).flops == 2 * (4 * M * M * N // DEVICES + 6 * M**3)
    # Products of 1024 terms and of 64, whose factors are at most 8.3, 23.6 and 17.3.
    error = roundings((N + 3 * M) * (8.3 + 23.6 + 17.3), "float32")
    np.testing.assert_allclose(np.asarray(program(put)), np.asarray(step(x)), rtol=0, atol=error)


@pytest.mark.parametrize(
    ("count", "shape", "shares"),
    [(1, (64, 128), False), (1, (64, 256), True), (3, (64, 512), False), (3, (64, 1024), True)],
)
def test_matrices_are_shared_if_a_device_then_computes_and_sends_less(count, shape, shares):
    """Three matrices have eight homes if they are moved. If shared, each device works on all three."""
    mesh = jax.make_mesh((DEVICES,), ("x",))
    columns = NamedSharding(mesh, P(None, "x"))
    tx = gradtx.orthogonalize_newton_schulz()
    params = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=columns) for _ in range(count)]
    text = jax.jit(lambda p: tx.update(p, tx.init(p))[0]).lower(params).as_text()
    assert ("all_to_all" in text) == (not shares)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_matrix_that_moves_to_its_long_axis_travels_in_bfloat16(kind):
    """There and back; a matrix that lies along its long axis does not travel, and is not rounded."""
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(AxisType[kind],))

    def rounded(spec, dtype):
        x = jax.ShapeDtypeStruct((M, N), jnp.float32, sharding=NamedSharding(mesh, spec))
        tx = gradtx.orthogonalize_newton_schulz(steps=1, exchange_dtype=dtype)
        text = jax.jit(lambda x: tx.update(x, tx.init(x))[0]).lower(x).as_text()
        return len(re.findall(rf"sharding_constraint .*tensor<1x{M}x{N}xbf16>", text))

    assert rounded(P("x"), None) == 0
    assert rounded(P("x"), "bfloat16") == 2
    # On Auto axes, the program does not know how the matrix lies.
    assert rounded(P(None, "x"), "bfloat16") == (2 if kind == "Auto" else 0)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("spec", [P(None, "x"), P("x")])
def test_the_rows_of_a_matrix_that_devices_share_stay_where_they_lie(kind, spec):
    if kind == "Auto" and not can_share_shardings():
        pytest.skip("JAX 0.12 cannot ask for the same sharding")
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(AxisType[kind],))
    x = jax.device_put(jax.random.normal(jax.random.key(0), (M, 2 * N)), NamedSharding(mesh, spec))
    tx = gradtx.normuon(0.1, steps=1)
    (route,) = gradtx.routing(tx, x)
    assert route.effects == f"sums of {M}x{M} products"
    state = jax.device_put(tx.init(x), gradtx.state_shardings(tx, x))
    updates, new = jax.jit(tx.update)(x, state, x)
    assert updates.sharding.is_equivalent_to(x.sharding, 2)
    for y, old in zip(*map(jax.tree.leaves, (new, state)), strict=True):
        assert y.sharding.is_equivalent_to(old.sharding, y.ndim)
