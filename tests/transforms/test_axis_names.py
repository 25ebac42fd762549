"""Inside `shard_map` with leaves that are shards: sums over a leaf are those of the whole leaf."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P
from public import PUBLIC
from rounding import roundings

import gradtx

SHAPES = {"kernel": (8, 4), "bias": (8,), "stack": (4, 2, 3)}
PARAMS, GRADIENT = zoo.tree(shapes=SHAPES), zoo.tree(seed=1, shapes=SHAPES)
FIRST = {"kernel": P("d"), "bias": P("d"), "stack": P("d")}
LAST = {"kernel": P(None, "d"), "bias": P(), "stack": P()}
MOMENTUM = "scale_by_momentum(0.5, form='heavy_ball')"
CASES = [
    ("cautious({m}, axis_name='d')", "cautious({m})", FIRST),
    ("cautious({m}, axis_name='d')", "cautious({m})", LAST),
    ("adaptive_grad_clip(0.01, axis_names={0: 'd'})", "adaptive_grad_clip(0.01)", FIRST),
    ("adaptive_grad_clip(0.01, axis_names={-1: 'd'})", "adaptive_grad_clip(0.01)", LAST),
    (
        "adaptive_grad_clip(0.01, axis=-1, axis_names={1: ('d',)})",
        "adaptive_grad_clip(0.01, axis=-1)",
        LAST,
    ),
    (
        "chain({m}, block_norm(True, 'd') / root(block_second_moment(0.5, axis_name='d')), "
        "scale_by_trust_ratio(eps=0.5, axis_name='d'), clip_by_block_norm(0.1, axis_name='d'))",
        "chain({m}, block_norm(True) / root(block_second_moment(0.5)), scale_by_trust_ratio(eps=0.5), "
        "clip_by_block_norm(0.1))",
        LAST,
    ),
    # A neuron of the last axis lies on one device, whatever the first axis is sharded over.
    (
        "adaptive_grad_clip(0.01, axis=-1, axis_names={0: 'd'})",
        "adaptive_grad_clip(0.01, axis=-1)",
        FIRST | {"bias": P()},
    ),
]


@pytest.mark.parametrize(("shards", "whole", "specs"), CASES, ids=str)
def test_an_update_of_shards_is_that_of_whole_leaves(shards, whole, specs):
    shards, whole = (zoo.evaluate(x.replace("{m}", MOMENTUM)) for x in (shards, whole))

    def steps(tx, params, g):
        state = tx.init(params)
        for factor in (1.0, -0.25):  # the momentum disagrees with the second gradient
            g = jax.tree.map(lambda x, factor=factor: factor * x + 0.1 * params_like(x), g)
            updates, state = tx.update(g, state, params)
        return updates

    def params_like(x):
        return jnp.sign(x)

    mesh = jax.make_mesh((4,), ("d",))
    mapped = jax.shard_map(
        lambda p, g: steps(shards, p, g), mesh=mesh, in_specs=(specs, specs), out_specs=specs
    )
    shardings = {k: NamedSharding(mesh, s) for k, s in specs.items()}
    got = jax.jit(mapped)(*jax.device_put((PARAMS, GRADIENT), (shardings, shardings)))
    want = jax.jit(lambda p, g: steps(whole, p, g))(PARAMS, GRADIENT)
    for name in SHAPES:  # a sum of 8 squares, a root and quotients, in any order
        tolerance = roundings(24, "float32")
        np.testing.assert_allclose(got[name], want[name], rtol=tolerance)


# What sums over leaves or over the tree and is not above, in one program. `{a}` is the axis name.
SUMS = (
    "lamb(0.1{a})",
    "lars(0.1, momentum=0.5{a})",
    "fromage(0.1{a})",
    "novograd(0.1{a})",
    "stableadamw(0.1{a})",
    "chain(scale_by_dog({a}), scale(-1.0))",
    "chain(scale_by_prodigy(estim_lr0=0.1, estim_lr_coef=10.0{a}), scale(-1.0))",
    "chain(scale_by_dadapt(estim_lr0=0.1{a}), scale(-1.0))",
    "scale_by_polyak({a})",
    "scale_by_param_block_norm({a})",
    "scale_by_param_block_rms({a})",
    "normalize_by_update_norm({a})",
    "orthogonal_to_params({a})",
    "mars_gradient({a})",
    "blockwise_second_moment(0.5, leaf_blocks(){a})",
    "graft(scale(0.5), scale_by_sign(){a})",
    "sam(sgd(0.1){a})",
    "asam(sgd(0.1){a})",
)


def test_sums_over_shards_are_those_of_whole_leaves():
    shapes = {"kernel": (8, 3), "bias": (4,)}
    params, weights = zoo.tree(shapes=shapes), zoo.tree(seed=1, shapes=shapes)

    def steps(name, params, weights):
        grad_fn = lambda p: jax.tree.map(lambda w, x: jnp.sin(3 * w) * x, weights, p)
        name = f", axis_name={name!r}" if name else ""
        found = []
        for code in SUMS:
            tx = zoo.evaluate(code.replace("{a}", name).replace("(, ", "("))

            def step(carry, value, tx=tx):
                p, state, _ = carry
                updates, state = tx.update(grad_fn(p), state, p, value=value, grad_fn=grad_fn)
                return (jax.tree.map(jnp.add, p, updates), state, updates), None

            start = params, tx.init(params), jax.tree.map(jnp.zeros_like, params)
            found.append(jax.lax.scan(step, start, jnp.full(3, 0.7))[0][2])
        return found

    mesh = jax.make_mesh((4,), ("d",))
    over = functools.partial(jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    put = jax.device_put((params, weights), NamedSharding(mesh, P("d")))
    want = jax.jit(functools.partial(steps, None))(params, weights)
    alone = jax.jit(over(functools.partial(steps, None)))(*put)
    for code, got, whole, other in zip(
        SUMS, jax.jit(over(functools.partial(steps, "d")))(*put), want, alone, strict=True
    ):
        # Three steps, each with sums of 24 squares, roots and quotients, whose differences may cancel.
        error = roundings(2**8, "float32")
        size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole))
        off = [
            max(
                np.abs(np.asarray(x) - np.asarray(y)).max()
                for x, y in zip(*map(jax.tree.leaves, xs), strict=True)
            )
            for xs in ((got, whole), (other, whole))
        ]
        assert off[0] <= error * size, code
        assert off[1] > 100 * error * size, code  # without the name, the sums are those of a shard


def test_the_page_on_scaling_lists_every_class_that_takes_an_axis_name():
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (row,) = re.findall(r'^\| (.*?) \| `axis_name="data"`', page, re.MULTILINE)
    classes = {name: x for name, x in PUBLIC.items() if isinstance(x, type)}
    takes = {n for n, x in classes.items() if "axis_name" in getattr(x, "__dataclass_fields__", {})}
    assert {*re.findall(r"`(\w+)`", row)} == takes | {"global_norm"}


def test_the_mesh_axis_of_a_neuron_needs_the_axis_of_the_leaf():
    with pytest.raises((TypeError, ValueError), match=r"axis_names='d'.* must be a mapping"):
        gradtx.adaptive_grad_clip(0.01, axis_names="d")


def test_every_class_that_takes_mesh_axes_gives_them_the_same_name():
    found = {
        name: [f.name for f in dataclasses.fields(x) if "axis_name" in f.name or "mesh" in f.name]
        for name, x in PUBLIC.items()
        if isinstance(x, type) and issubclass(x, gradtx.Transform)
    }
    named = {name for name, fields in found.items() if fields == ["axis_name"]}
    by_axis = {name for name, fields in found.items() if fields == ["axis_names"]}
    assert not any(fields for name, fields in found.items() if name not in named | by_axis)
    assert "adaptive_grad_clip" in by_axis
    assert named >= {"clip_by_global_norm", "clip_by_block_rms", "cautious"}
    assert named >= {"skip_nonfinite", "skip_spikes", "accumulate", "tap", "observe"}


def test_a_matrix_transformation_of_shards_is_not_that_of_the_matrix():
    """What docs/scaling.md says about Muon inside `shard_map`."""
    tx = gradtx.muon(0.05, axes=gradtx.hidden_matrices())
    mesh = jax.make_mesh((4,), ("d",))
    params = {"kernel": zoo.tree(shapes={"w": (64, 32)})["w"]}
    update = lambda p: tx.update(p, tx.init(p), p)[0]["kernel"]
    rows = jax.device_put(params, NamedSharding(mesh, P("d")))
    mapped = jax.shard_map(update, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    assert np.abs(mapped(rows) - update(params)).max() > 0.005
