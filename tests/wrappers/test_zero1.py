"""`zero1`: the numbers of the inner optimizer, a part of its state per device, and one gather."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rounding import roundings

import gradtx
from gradtx import adamw, chain, clip_by_global_norm, sgd, state_shardings, zero1
from gradtx._wrappers import gather

SHAPES = {"kernel": (8, 16), "bias": (16,), "gain": (), "odd": (3, 5), "stack": (3, 8, 16)}
PARAMS, GRADIENT = zoo.tree(shapes=SHAPES), zoo.tree(seed=1, shapes=SHAPES)
COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


def mesh_of(kind, *sizes):
    names = ("data", "model")[: len(sizes)]
    return jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(sizes))


def placed(mesh, specs=None):
    """Parameters and gradients on a mesh, replicated unless `specs` says otherwise."""
    specs = dict.fromkeys(SHAPES, P()) | (specs or {})
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    return (*(jax.device_put(x, shardings) for x in (PARAMS, GRADIENT)), shardings)


def compiled(tx, params, g):
    """The state after `init`, and the compiled step."""
    state = jax.jit(tx.init, out_shardings=state_shardings(tx, params))(params)
    return state, jax.jit(tx.update).lower(g, state, params).compile()


def close(got, want):
    # Some ten operations lie between a gradient and an update of AdamW; none of them magnifies.
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(x, y, rtol=roundings(16, "float32"))


def bytes_per_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


MODEL = {"kernel": P(None, "model"), "stack": P(None, None, "model")}


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize(
    ("sizes", "specs", "gathers"),
    [((8,), None, {"Auto": 1, "Explicit": 1}), ((4, 2), MODEL, {"Auto": 3, "Explicit": 1})],
    ids=["one axis", "two axes"],
)
def test_a_step_has_the_numbers_of_the_inner_optimizer_and_gathers_once(
    kind, sizes, specs, gathers
):
    params, g, shardings = placed(mesh_of(kind, *sizes), specs)
    tx = zero1(adamw(0.1), "data")
    state, step = compiled(tx, params, g)
    want, want_state = adamw(0.1).update(GRADIENT, adamw(0.1).init(PARAMS), PARAMS)
    for updates, new in (step(g, state, params), tx.update(g, tx.init(params), params)):
        close((updates, new), (want, want_state))
        for name, u in updates.items():
            assert u.sharding.is_equivalent_to(shardings[name], u.ndim)
        assert zoo.types(new) == zoo.types(state)
        for x, s in zip(*map(jax.tree.leaves, (new, state)), strict=True):
            assert not x.ndim or x.sharding.is_equivalent_to(s.sharding, x.ndim)
    found = COLLECTIVE.findall(step.as_text())
    assert found == ["all-gather"] * gathers[kind]


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_device_holds_its_part_of_the_state(kind):
    params, *_ = placed(mesh_of(kind, 8))
    tx = zero1(adamw(0.1), "data")
    state = tx.init(params)
    plain, split = (bytes_per_device(x) for x in (adamw(0.1).init(params), state))
    # Two moments of 15 odd numbers and of one more, and three scalars, are on every device.
    everywhere = 2 * 16 * 4 + 3 * 4
    assert split - everywhere == (plain - everywhere) / 8
    assert gradtx.get(state, "mu")["stack"].sharding.spec[1] == "data"


def test_no_more_is_gathered_at_once_than_the_limit(monkeypatch):
    monkeypatch.setattr(gather, "MOST_BYTES", 600)
    params, g, _ = placed(mesh_of("Explicit", 8))
    state, step = compiled(zero1(sgd(0.1), "data"), params, g)
    # 64 and 512 bytes together, and 1536 bytes alone.
    assert COLLECTIVE.findall(step.as_text()) == ["all-gather"] * 2
    close(step(g, state, params)[0], jax.tree.map(lambda x: -0.1 * x, GRADIENT))


def test_the_norm_in_front_of_it_needs_no_reduction():
    params, g, _ = placed(mesh_of("Explicit", 8))
    _, step = compiled(chain(clip_by_global_norm(1.0), zero1(adamw(0.1), "data")), params, g)
    assert COLLECTIVE.findall(step.as_text()) == ["all-gather"]


def test_what_is_sharded_over_the_axis_already_is_not_split_again():
    params, g, shardings = placed(mesh_of("Explicit", 8), {"kernel": P("data")})
    tx = zero1(adamw(0.1), "data")
    specs = {k: s.spec for k, s in gradtx.get(state_shardings(tx, params), "mu").items()}
    assert specs["kernel"] == P("data") and specs["bias"] == P("data")
    updates, _ = tx.update(g, tx.init(params), params)
    assert updates["kernel"].sharding.is_equivalent_to(shardings["kernel"], 2)


def test_it_splits_over_several_axes_together():
    params, g, _ = placed(mesh_of("Explicit", 4, 2))
    tx = zero1(adamw(0.1), ("data", "model"))
    state, step = compiled(tx, params, g)
    assert gradtx.get(state, "mu")["kernel"].sharding.spec[0] == ("data", "model")
    assert COLLECTIVE.findall(step.as_text()) == ["all-gather"]


def test_bfloat16_and_float32_parameters_are_gathered_together_and_rounded_once():
    params, g, _ = placed(mesh_of("Explicit", 8))
    narrow = {"kernel": params["kernel"].astype(jnp.bfloat16), "bias": params["bias"]}
    g = {"kernel": g["kernel"].astype(jnp.bfloat16), "bias": g["bias"]}
    state, step = compiled(zero1(adamw(0.1), "data"), narrow, g)
    updates, _ = step(g, state, narrow)
    assert COLLECTIVE.findall(step.as_text()) == ["all-gather"]
    assert updates["kernel"].dtype == jnp.bfloat16 and updates["bias"].dtype == jnp.float32


def test_an_axis_that_the_mesh_lacks_is_named():
    params, *_ = placed(mesh_of("Explicit", 8))
    with pytest.raises(ValueError, match=r"zero1\(axis='replica'\).* has the axes \('data',\)"):
        zero1(adamw(0.1), "replica").init(params)


def test_inside_a_shard_map_over_the_axis_the_remedy_is_named():
    mesh = mesh_of("Explicit", 8)
    tx = zero1(sgd(0.1), "data")
    x = jax.device_put(jnp.ones(8), NamedSharding(mesh, P("data")))
    with pytest.raises(ValueError, match="Call `update` outside of it"):
        jax.shard_map(
            lambda x: tx.update(x, tx.init(x))[0],
            mesh=mesh,
            in_specs=P("data"),
            out_specs=P("data"),
        )(x)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize(
    "make",
    [
        lambda tx: zero1(gradtx.offloaded(tx), "data"),
        lambda tx: gradtx.offloaded(zero1(tx, "data")),
    ],
    ids=["offloaded inside", "zero1 inside"],
)
def test_zero1_and_offloaded_work_inside_each_other(make, kind):
    sharding = NamedSharding(mesh_of(kind, 8), P())
    w = jax.device_put(zoo.tree(shapes={"w": (64, 128)})["w"], sharding)
    tx = make(adamw(0.1))
    state = jax.jit(tx.init, out_shardings=state_shardings(tx, w))(w)
    updates, state = jax.jit(tx.update)(w, state, w)
    mu = gradtx.get(state, "mu").sharding
    assert (mu.memory_kind, mu.spec[0]) == ("pinned_host", "data")
    assert updates.sharding.is_fully_replicated
    close(updates, adamw(0.1).update(w, adamw(0.1).init(w), w)[0])


@pytest.mark.parametrize(("spec", "kept"), [(P(None, "model"), True), (P("model"), False)])
def test_on_auto_axes_shards_are_kept_except_along_the_axis_that_is_split(spec, kept):
    """The kernel is split along its first axis. The compiler is told nothing about the others."""
    params, g, shardings = placed(mesh_of("Auto", 4, 2), {"kernel": spec})
    params, g, sharding = params["kernel"], g["kernel"], shardings["kernel"]
    state, step = compiled(zero1(adamw(0.1), "data"), params, g)
    updates, _ = step(g, state, params)
    assert updates.sharding.is_equivalent_to(sharding, 2) == kept
    close(
        updates,
        adamw(0.1).update(GRADIENT["kernel"], adamw(0.1).init(PARAMS["kernel"]), PARAMS["kernel"])[
            0
        ],
    )


@pytest.mark.parametrize(("sizes", "spec"), [((8,), P()), ((4, 2), P(None, "model"))])
def test_place_says_how_the_matrices_inside_are_sharded(sizes, spec):
    """Told how they were before they were split, a step on Auto axes would gather each of them."""
    w = jax.ShapeDtypeStruct(
        (16, 32), jnp.float32, sharding=NamedSharding(mesh_of("Auto", *sizes), spec)
    )
    params = {f"w{i}": w for i in range(8)}
    tx = zero1(gradtx.orthogonalize_newton_schulz(steps=1), "data")
    placed = gradtx.place(tx, params)
    assert placed == zero1(gradtx.place(tx.inner, params, split_by(spec, w)), "data")
    assert gradtx.place(zero1(adamw(0.1), "data"), params) == zero1(adamw(0.1), "data")
    step = jax.jit(lambda p: placed.update(p, placed.init(p))[0]).lower(params).compile()
    found = COLLECTIVE.findall(step.as_text())
    assert sorted(found) == ["all-gather", "all-to-all", "all-to-all"]


def split_by(spec, w):
    return NamedSharding(w.sharding.mesh, P("data", *spec[1:]))
