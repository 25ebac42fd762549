"""Layouts in which whole matrices are gathered are said once, with what to do."""

import re
import warnings
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives

MATRIX, STACK, EXPERTS = (32, 64), (16, 8, 16), (4, 8, 8, 16)
# The leaves, their spec, and whether the compiler gathers them on Auto axes "x" (4) and "y" (2).
LAYOUTS = {
    "both axes": (MATRIX, P("x", "y"), False),
    "one axis over both": (MATRIX, P(None, ("x", "y")), False),
    "one axis over both, in the other order": (MATRIX, P(("y", "x")), False),
    "replicas": (MATRIX, P(None, "x"), False),
    "layers": (STACK, P("x", None, "y"), False),
    "layers over the second axis": (STACK, P("y"), True),
    "a stack over both": (STACK, P(None, None, ("x", "y")), True),
    "experts": (EXPERTS, P("x", "y"), True),
    "experts over one axis": (EXPERTS, P(None, "y"), True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_routing_and_state_shardings_say_what_the_compiled_step_gathers(layout):
    shape, spec, is_gathered = LAYOUTS[layout]
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, spec)
    count = 16 if shape == MATRIX else 1
    params = {
        f"w{i}": jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for i in range(count)
    }
    tx = gradtx.orthogonalize_newton_schulz(steps=1)

    def gathers(tx):
        f = jax.jit(lambda p: tx.update(p, tx.init(p))[0], out_shardings=sharding)
        text = f.lower(params).compile({"xla_backend_optimization_level": 0}).as_text()
        return Counter(x.kind for x in collectives(text))["all-gather"]

    placed = gradtx.place(tx, params)
    assert (gathers(tx) > gathers(placed)) == is_gathered
    routes = gradtx.routing(tx, params)
    assert all((row.effects == "gathered whole") == is_gathered for row in routes)
    assert any("gradtx.place" in note for note in routes.notes) == is_gathered
    assert not gradtx.routing(placed, params).notes
    gradtx.state_shardings(placed, params)
    if is_gathered:
        with pytest.warns(
            UserWarning, match=r"gathers `w0`.* whole in every step.* `gradtx\.place"
        ):
            gradtx.state_shardings(tx, params)
    gradtx.state_shardings(tx, params)  # it says so once


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_muon_inside_a_shard_map_over_some_axes_says_once_that_the_others_do_not_share(kind):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
    w = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, P(None, "y")))
    tx = gradtx.adamuon(0.1, steps=1)

    def step(p):
        return tx.update(p, tx.init(p), p)[0]

    f = jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P(), axis_names={"x"})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        jax.eval_shape(f, {"v": w, "w": w})
        jax.eval_shape(f, {"v": w, "w": w})
    (one,) = said
    assert re.search(r"`v` and 1 other leaf inside a `shard_map` .* axis 'y'\.", str(one.message))
    everywhere = jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P())
    whole = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, P()))
    jax.eval_shape(everywhere, {"v": whole, "w": whole})


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_placed_muon_inside_a_shard_map_over_some_axes_is_right_or_refused(kind):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind,) * 2)
    tx = gradtx.orthogonalize_newton_schulz(steps=1)
    w = jax.random.normal(jax.random.key(0), (8, 16))

    def inside(spec):
        put = jax.device_put(w, NamedSharding(mesh, spec))
        placed = gradtx.place(tx, put)
        f = jax.shard_map(
            lambda p: placed.update(p, placed.init(p))[0],
            mesh=mesh,
            in_specs=P("x"),
            out_specs=P("x"),
            axis_names={"x"},
        )
        return jax.jit(f)(put)

    # Three products of at most 16 terms, whose factors are at most 8.3, 23.6 and 17.3.
    error = 3 * 16 * (8.3 + 23.6 + 17.3) * 2.0**-24
    np.testing.assert_allclose(inside(P("x")), tx.update(w, tx.init(w))[0], rtol=0, atol=error)
    with pytest.raises(ValueError, match=r"axis 'y', which this `shard_map` does not go over"):
        inside(P("x", "y"))
