"""`place` and `laid_out`: optimizers of matrices that are told how the parameters are sharded."""

import os
import pickle
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rounding import roundings

import gradtx
from benchmarks.hlo import collectives
from gradtx import hidden_matrices, laid_out

SPECS = {
    "tall": P(("x", "y")),
    "both": P("x", "y"),
    "layers": P("y", None, "x"),
    "bias": P("x"),
}
SHAPES = {
    "tall": (16, 8),
    "both": (8, 16),
    "layers": (4, 8, 16),
    "bias": (16,),
}
RULE = hidden_matrices(blocks={"layers": 2})


def tree():
    """Parameters of every layout on a mesh of two axes: alone, placed on the mesh, and their specs."""
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    keys = jax.random.split(jax.random.key(0), len(SHAPES))
    alone = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    shardings = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    return mesh, alone, jax.device_put(alone, shardings)


@pytest.mark.parametrize("name", ["normuon", "adamuon", "scion"])
def test_inside_shard_map_a_placed_optimizer_gives_one_devices_numbers(name):
    """In two steps. Each device makes a part of the state, of the types that a step returns."""
    if name != "normuon" and not os.environ.get("ALL_MESHES"):
        pytest.skip("only ALL_MESHES=1 runs the other optimizers")
    mesh, alone, put = tree()
    tx = getattr(gradtx, name)(0.1, steps=1, axes=RULE)
    placed = gradtx.place(tx, put)
    of_state = jax.tree.map(lambda s: s.spec, gradtx.state_shardings(placed, put))

    def init_and_step(params, updates, state):
        made = placed.init(params)
        updates, state = placed.update(updates, state, params)
        for x, y in zip(*map(jax.tree.leaves, (made, state)), strict=True):
            assert str(jax.typeof(x)) == str(jax.typeof(y))
        return made, updates, state

    inside = jax.shard_map(
        init_and_step,
        mesh=mesh,
        in_specs=(SPECS, SPECS, of_state),
        out_specs=(of_state, SPECS, of_state),
    )
    inside, step = jax.jit(inside), jax.jit(tx.update)
    state = tx.init(alone)
    want = (state, *step(alone, state, alone))
    got = inside(put, put, placed.init(put))
    got, want = (got[0], *inside(put, *got[1:])[1:]), (want[0], *step(*want[1:], alone))
    # One step of Newton-Schulz has three products of at most 16 terms, whose factors are at most 8.3,
    # 23.6 and 17.3. An update is at most the rate times the radius of Scion, and states are below 8.
    size = 8.0 if name != "scion" else 0.1 * 3000
    error = size * roundings(3 * 16 * (8.3 + 23.6 + 17.3), "float32")
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=error)


def test_on_auto_axes_a_placed_muon_needs_the_exchanges_of_explicit_axes():
    """Without `place`, XLA sends half as much again, since the axis of the replicas is the first."""
    mesh = jax.make_mesh((2, 4), ("y", "x"), axis_types=(AxisType.Auto,) * 2)
    columns = NamedSharding(mesh, P(None, "x"))
    params = {
        f"w{i}": jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=columns) for i in range(16)
    }
    tx = gradtx.orthogonalize_newton_schulz(steps=1)

    def found(tx):
        f = jax.jit(lambda p: tx.update(p, tx.init(p))[0], out_shardings=columns)
        text = f.lower(params).compile({"xla_backend_optimization_level": 0}).as_text()
        sent = collectives(text)
        return Counter(x.kind for x in sent), sum(x.bytes for x in sent)

    kinds, size = found(gradtx.place(tx, params))
    assert kinds == {"all-to-all": 2, "all-gather": 1}
    assert size == 2 * 16 * 8 * 4 * 4 // 2 + 16 * 8 * 4 * 4
    assert found(tx)[1] > size


def test_place_changes_the_rules_alone():
    """Numbers, schedules and labels stay, so a state fits both optimizers, and the value is a value."""
    _, alone, put = tree()
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.tunable(gradtx.scion(0.1, axes=RULE)))
    placed = gradtx.place(tx, put)
    specs = {name: tuple(spec) for name, spec in SPECS.items() if any(spec)}
    specs = {name: spec + (None,) * (len(SHAPES[name]) - len(spec)) for name, spec in specs.items()}
    assert placed == gradtx.replace(tx, axes=laid_out(RULE, specs))
    assert gradtx.place(placed, put) == placed
    for copy in (gradtx.parse(repr(placed)), pickle.loads(pickle.dumps(placed))):
        assert copy == placed
    assert jax.tree.structure(placed.init(alone)) == jax.tree.structure(tx.init(alone))
    rows = [gradtx.routing(x, alone) for x in (tx, placed)]
    assert rows[0] == rows[1]
    assert gradtx.place(gradtx.adamw(0.1), put) == gradtx.adamw(0.1)
    assert gradtx.place(tx, alone) == tx  # one device


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(TypeError, match=r"`laid_out\(rule=by_rank\(2\)\)` must be a rule"):
        laid_out(gradtx.by_rank(2), {})
    with pytest.raises(TypeError, match=r"`laid_out\(specs=\{'w': 3\}\)` must be a mapping"):
        laid_out(hidden_matrices(), {"w": 3})
    with pytest.raises(TypeError, match=r"`laid_out\(specs=.*\)` must be a mapping"):
        laid_out(hidden_matrices(), P("x"))
    with pytest.raises(TypeError, match=r"`place`: the sharding of the parameter at `w` is"):
        gradtx.place(gradtx.muon(0.1), {"w": jnp.ones((2, 2))}, {"w": P("x")})
    mesh, _, put = tree()
    rule = laid_out(hidden_matrices(blocks={"tall": (2, 1, 1)}), {"tall": (("x", "y"),)})
    tx = gradtx.orthogonalize_newton_schulz(axes=rule)
    f = jax.shard_map(
        lambda x: tx.update({"tall": x}, tx.init({"tall": x}))[0]["tall"],
        mesh=mesh,
        in_specs=P(("x", "y")),
        out_specs=P(("x", "y")),
    )
    with pytest.raises(ValueError, match=r"`tall` holds unequal parts, \(2, 1, 1\)"):
        jax.eval_shape(f, put["tall"])
