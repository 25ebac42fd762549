"""What `routing` says about transformations inside of others, and what the compiled step does."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from authors import given_loss
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import lowered_collectives
from gradtx import by_rank, freeze, masked, routing, sgd

SHAPES = {"bias": (16,), "layers/0/w": (8, 16), "layers/1/w": (8, 16)}
# One wrapper of each class around an optimizer. Those of matrices are given the matrices alone.
AROUND = {
    "accumulate": lambda tx: gradtx.accumulate(tx, 2),
    "averaged": gradtx.averaged,
    "cautious": gradtx.cautious,
    "compensated": gradtx.compensated,
    "delayed": gradtx.delayed,
    "dynamic_loss_scale": gradtx.dynamic_loss_scale,
    "ema_nesterov": gradtx.ema_nesterov,
    "every": lambda tx: gradtx.every(2, tx),
    "graft": lambda tx: gradtx.graft(sgd(0.1), tx),
    "in_basis": lambda tx: gradtx.in_basis(gradtx.eigenbasis(0.9, every=1), tx),
    "keep_norm": gradtx.keep_norm,
    "layerwise": lambda tx: gradtx.layerwise(tx, 0.9),
    "lookahead": lambda tx: gradtx.lookahead(tx, 5, 0.5),
    "masked": lambda tx: masked(tx, by_rank(2)),
    "master_weights": gradtx.master_weights,
    "mup": lambda tx: gradtx.mup(tx, SHAPES),
    "observe": lambda tx: gradtx.observe(tx, (gradtx.norm(),)),
    "offloaded": lambda tx: gradtx.offloaded(tx, min_size=0),
    "once": gradtx.once,
    "outer": lambda tx: gradtx.outer(tx, sgd(0.5), 2),
    "over_residual": lambda tx: gradtx.over_residual(tx, gradtx.rms(0.9)),
    "perturbed": lambda tx: gradtx.perturbed(tx, sgd(0.1)),
    "refreshed_average": lambda tx: gradtx.refreshed_average(tx, 0.9, 2),
    "sam": gradtx.sam,
    "asam": gradtx.asam,
    "scale_by_dual_norm": gradtx.scale_by_dual_norm,
    "scale_in_basis": lambda tx: gradtx.scale_in_basis(gradtx.low_rank(4, every=1), tx),
    "schedule_free": lambda tx: gradtx.schedule_free(tx, 0.1),
    "skip_nonfinite": gradtx.skip_nonfinite,
    "skip_spikes": gradtx.skip_spikes,
    "soda": gradtx.soda,
    "stored": lambda tx: gradtx.stored(tx, "int8", min_size=1),
    "tunable": gradtx.tunable,
    "weight_norm": lambda tx: gradtx.weight_norm(tx, sgd(0.1)),
    "zero1": lambda tx: gradtx.zero1(tx, "x"),
}
ON_MATRICES = {"in_basis", "keep_norm", "scale_by_dual_norm", "scale_in_basis", "weight_norm"}
# They take moments and measures of gradients, or are serial, parallel or spatial compositions.
OTHERS = {"bias_correction", "root", "running_max", "chain", "named_chain", "fanout"}
OTHERS |= {"partition", "multi_transform"}
MUON = gradtx.muon(0.1, steps=1, weight_decay=0.1, auxiliary=sgd(0.1))


def around(name, tx):
    tx = AROUND[name](tx)
    tx = masked(tx, by_rank(2)) if name in ON_MATRICES else tx
    return given_loss(tx) if name in ("perturbed", "sam", "asam") else tx


def tree(sharding=None):
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding and sharding[len(shape)])
        for name, shape in SHAPES.items()
    }


def on_mesh(spec, kind="Explicit", **axes):
    mesh = jax.make_mesh(
        tuple(axes.values()), tuple(axes), axis_types=(AxisType[kind],) * len(axes)
    )
    return tree({1: NamedSharding(mesh, P()), 2: NamedSharding(mesh, spec)})


def test_the_table_has_every_class_around_another_transformation():
    classes = {
        name
        for name in gradtx.__all__
        if isinstance(x := getattr(gradtx, name), type)
        and issubclass(x, gradtx.Transform)
        and {*x._transforms} - {"auxiliary", "hessian_diagonal_fn"}
    }
    assert classes - {"Wrapper"} == {*AROUND} | OTHERS


@pytest.mark.parametrize("name", AROUND)
def test_a_wrapper_shows_where_the_leaves_inside_go_and_what_their_matrices_cost(name):
    rows = {row.path: row for row in routing(around(name, MUON), on_mesh(P(None, "x"), x=8))}
    moved = ["2 all-to-alls with 1 other"]
    if name == "in_basis":
        moved = ["6 all-to-alls with 1 other", *moved]  # of the basis
    if name == "scale_in_basis":
        moved = ["gathered whole"]  # and nothing is sharded inside
    for path in ("layers/0/w", "layers/1/w"):
        assert rows[path].label == "muon"
        assert [x for x in rows[path].effects.split(", ") if not x.startswith("in masked")] == [
            "decays",
            *moved,
        ]
    bias = rows["bias"]
    assert bias.label == ("masked" if name in (*ON_MATRICES, "masked") else "sgd")
    assert bias.effects == ("1 all-gather of updates" if name == "zero1" else "")


@pytest.mark.parametrize("name", AROUND)
def test_the_lowered_step_has_the_exchanges_that_routing_lists(name):
    if name in ("in_basis", "scale_in_basis"):
        return
    params = on_mesh(P(None, "x"), x=8)
    tx = around(name, MUON)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        gradtx.state_shardings(tx, params),
    )
    text = jax.jit(tx.update).lower(params, state, params).as_text()
    found = Counter(x.kind for x in lowered_collectives(text))
    assert found == {"all-to-all": 2} | ({"all-gather": 1} if name == "zero1" else {})


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_zero1_lists_what_it_gathers_beside_what_the_optimizer_inside_moves(kind):
    params = on_mesh(P(), kind, x=8)
    sharding = params["bias"].sharding
    params["odd"] = jax.ShapeDtypeStruct((3, 5), jnp.float32, sharding=sharding)
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.zero1(MUON, "x"))
    rows = {row.path: (row.label, row.effects) for row in routing(tx, params)}
    updates = "1 all-gather of updates with 2 others"
    assert rows == {
        "bias": ("sgd", updates),
        "layers/0/w": ("muon", f"decays, {updates}, 2 all-to-alls with 1 other"),
        "layers/1/w": ("muon", f"decays, {updates}, 2 all-to-alls with 1 other"),
        "odd": ("muon", "decays"),  # every device keeps this matrix and updates it
    }


@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_on_two_mesh_axes_the_matrices_inside_zero1_are_sharded_over_both(kind):
    """Both axes of a matrix become whole at once."""
    w = on_mesh(P(None, "y"), kind, x=4, y=2)["layers/0/w"]
    params = {f"w{i}": w for i in range(8)}
    tx = gradtx.zero1(gradtx.orthogonalize_newton_schulz(steps=1), "x")
    effects = {row.effects for row in routing(tx, params)}
    assert effects == {"1 all-gather of updates with 7 others, 2 all-to-alls with 7 others"}
    if kind == "Explicit":
        text = jax.jit(lambda p: tx.update(p, tx.init(p))[0]).lower(params).as_text()
        found = Counter(x.kind for x in lowered_collectives(text))
        assert found == {"all-to-all": 2, "all-gather": 1}


def test_layouts_inside_a_wrapper_are_warned_of_and_noted():
    params = on_mesh(P(("y", "x")), "Auto", x=4, y=2)
    tx = gradtx.accumulate(gradtx.muon(0.1), 4)
    routes = routing(tx, params)
    assert any("gradtx.place" in note for note in routes.notes)
    with pytest.warns(UserWarning, match=r"gathers `layers/0/w` and 1 other leaf whole"):
        gradtx.state_shardings(tx, params)
    gradtx.state_shardings(tx, params)  # it says so once


@pytest.mark.parametrize(
    ("inner", "frozen"),
    [
        (gradtx.weight_norm(freeze(), sgd(0.1)), False),
        (gradtx.weight_norm(sgd(0.1), freeze()), False),
        (gradtx.in_basis(gradtx.eigenbasis(0.9, every=1), freeze()), True),
        (gradtx.in_basis(gradtx.eigenbasis(0.9, every=1), sgd(0.1), freeze()), True),
        (
            gradtx.in_basis(
                gradtx.eigenbasis(0.9, every=1), gradtx.add_decayed_weights(0.1), freeze()
            ),
            False,
        ),
    ],
    ids=repr,
)
def test_one_part_at_rest_does_not_freeze_what_another_one_moves(inner, frozen):
    tx = masked(inner, by_rank(2))
    params = {"w": jax.random.normal(jax.random.key(0), (4, 8))}
    (row,) = routing(tx, params)
    assert ("frozen" in row.effects) == frozen
    updates, state = tx.update(params, tx.init(params), params)
    later, _ = tx.update(params, state, params)  # the basis may be made in the first step
    assert (not np.any(updates["w"]) and not np.any(later["w"])) == frozen


def test_what_lies_inside_a_basis_is_routed_by_its_shape_there():
    inner = gradtx.partition({"wide": sgd(0.1), "narrow": gradtx.adam(0.1)}, _side)
    basis = gradtx.in_basis(gradtx.low_rank(2, every=1), inner)
    labels = [routing(tx, {"w": jnp.ones((4, 8))})[0].label for tx in (inner, basis)]
    assert labels == ["wide", "narrow"]


def _side(path, leaf):
    return "narrow" if leaf.shape == (2, 8) else "wide"
