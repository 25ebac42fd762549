"""The table that says where each parameter goes, and what happens to it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P

import gradtx
from gradtx import adam, adamw, by_path, by_rank, chain, freeze, masked, partition, routing, sgd

PARAMS = {"w": jnp.ones((4, 8)), "b": jnp.ones(8), "head": {"kernel": jnp.ones((8, 3))}}
GRADIENT = {"w": jnp.ones((4, 8)), "b": jnp.ones(8), "head": {"kernel": jnp.ones((8, 3))}}


def effects(tx):
    return {route.path: route.effects for route in routing(tx, PARAMS)}


@pytest.mark.parametrize(
    ("tx", "expected"),
    [
        (adam(0.1), ("", "", "")),
        (adamw(0.1), ("decays", "decays", "decays")),
        (adamw(0.1, weight_decay=0.0), ("", "", "")),
        (adamw(0.1, mask=by_rank(2)), ("", "decays", "decays")),
        (adamw(0.1, mask={"w": 1, "b": 0, "head": 0}), ("", "", "decays")),
        (adam(0.1, weight_decay=0.1, decoupled=True), ("decays", "decays", "decays")),
        (freeze(), ("frozen", "frozen", "frozen")),
        (freeze(by_rank(2)), ("", "frozen", "frozen")),
        (chain(adamw(0.1), freeze(by_rank(2))), ("decays", "frozen", "frozen")),
        # Frozen first, a parameter still decays.
        (chain(freeze(by_rank(2)), adamw(0.1)), ("decays", "decays", "decays")),
        (chain(freeze(by_rank(2)), adam(0.1)), ("", "frozen", "frozen")),
        (masked(freeze(), by_rank(2)), ("", "frozen", "frozen")),
        (masked(sgd(0.1), by_rank(2)), ("", "in masked(sgd)", "in masked(sgd)")),
        (
            partition({"a": freeze(), "b": adamw(0.1)}, by_path({"head": "a"}, "b")),
            ("decays", "frozen", "decays"),
        ),
        (freeze() + sgd(0.1), ("", "", "")),
        (freeze() * sgd(0.1), ("frozen", "frozen", "frozen")),
        (freeze() / (gradtx.rms() + 1.0), ("frozen", "frozen", "frozen")),
        (gradtx.cautious(chain(gradtx.scale(0.1), freeze(by_rank(2)))), ("", "frozen", "frozen")),
        (chain(optax.sgd(0.1)), ("", "", "")),
    ],
    ids=zoo.named,
)
def test_decay_and_freezing_are_shown(tx, expected):
    assert effects(tx) == dict(zip(("b", "head/kernel", "w"), expected, strict=True))
    # What is called frozen does not move, and all else does.
    updates, _ = tx.update(GRADIENT, tx.init(PARAMS), PARAMS)
    for path, u in (("b", updates["b"]), ("w", updates["w"])):
        assert (not np.any(u)) == ("frozen" in effects(tx)[path])


class own(gradtx.Wrapper):
    """A wrapper that calls `inner` by itself."""

    def update_tree(self, updates, state, params, extra):
        return self.inner.update_tree(updates, state, params, extra)


def test_factors_of_layers_and_widths_keep_frozen_parameters_frozen():
    params = {"layers": [{"w": jnp.ones((2, 2))}, {"w": jnp.ones((2, 2))}]}
    inner = chain(adamw(0.1), freeze(by_path({"layers/0": True}, otherwise=False)))
    base = {"layers/0/w": (1, 1), "layers/1/w": (1, 1)}
    for tx in (inner, gradtx.layerwise(inner, 0.5), gradtx.mup(inner, base)):
        assert [route.effects for route in routing(tx, params)] == ["frozen", "decays"]


def test_a_wrapper_that_calls_its_inner_transformation_is_looked_into():
    tx = own(chain(adamw(0.1, mask=by_rank(2))))
    assert effects(tx) == {"b": "", "head/kernel": "decays", "w": "decays"}
    routes = routing(own(gradtx.muon(0.1)), PARAMS)
    assert {r.path: r.label for r in routes}["w"] == "muon"


@pytest.mark.parametrize("row", zoo.ROWS, ids=str)
def test_a_class_that_keeps_zero_gives_zero_for_zero(row):
    tx = row.make()
    if tx.keeps_zero and not (tx.wraps and moves_from_zero(tx.inner)):
        assert row.at_zero is np.zeros_like


def moves_from_zero(tx):
    """Whether a part is not zero where the gradient is, such as a constant."""
    params = {"w": jnp.ones((2, 2))}
    zero = jax.tree.map(jnp.zeros_like, params)
    return np.any(tx.update(zero, tx.init(params), params)[0]["w"])


def test_the_groups_have_the_names_of_what_trains_them():
    labels = lambda tx: {r.path: r.label for r in routing(tx, PARAMS)}
    assert labels(gradtx.muon(0.1)) == {"b": "adamw", "head/kernel": "adamw", "w": "muon"}
    assert labels(gradtx.muon(0.1, auxiliary=sgd(0.1)))["b"] == "sgd"
    assert labels(gradtx.normuon(0.1))["w"] == "normuon"
    assert labels(gradtx.scion(0.1))["b"] == "sign"
    nested = partition({"a": gradtx.muon(0.1), "b": sgd(0.1)}, by_path({"^w$": "a"}, "b"))
    assert labels(nested) == {"b": "b", "head/kernel": "b", "w": "a > muon"}
    assert labels(partition({True: adam(0.1), False: sgd(0.1)}, by_rank(2)))["w"] == "True"


def test_the_table_prints_and_shows_in_html():
    routes = routing(gradtx.muon(0.1), {"<w>": jnp.ones((4, 8)), "b": jnp.ones(8), "n": 3})
    assert repr(routes).splitlines()[0].split() == ["leaf", "shape", "goes", "to", "why"]
    assert "effects" in repr(routing(adamw(0.1), PARAMS)) and len(routes) == 2
    html = routes._repr_html_()
    assert "&lt;w&gt;" in html and "<w>" not in html and "matrix 4 -&gt; 8" in html
    assert routes[0] == ("<w>", (4, 8), "muon", "matrix 4 -> 8", "")


def test_on_a_mesh_it_says_how_the_devices_bring_matrices_together():
    mesh = jax.make_mesh((4, 2), ("x", "y"))

    def sharded(shape, *spec):
        sharding = NamedSharding(mesh, P(*spec))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    params = {
        "q": sharded((64, 64), None, "x"),
        "k": sharded((64, 64), None, "x"),
        "both": sharded((64, 64), "x", "y"),
        "layers": sharded((8, 64, 64), ("x", "y")),
        "long": sharded((64, 4096), None, "x"),
        "many": sharded((8, 64, 32), None, None, "x"),
        "bias": sharded((64,), "x"),
    }
    effects = {row.path: row.effects for row in routing(gradtx.normuon(0.1), params)}
    assert effects == {
        # Four devices suffice for two matrices, so that replicas update the same one.
        "q": "2 all-to-alls with 1 other",
        "k": "2 all-to-alls with 1 other",
        "many": "2 all-to-alls and 1 all-gather",
        "both": "4 all-to-alls",
        "layers": "",
        "long": "sums of 64x64 products",
        "bias": "",
    }
    alone = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in params.items()}
    assert not any(row.effects for row in routing(gradtx.normuon(0.1), alone))
