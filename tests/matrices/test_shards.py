"""Inside `shard_map`, a rule that knows how leaves are sharded gives whole matrices or a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P

import gradtx

SHAPES = {"kernel": (8, 16), "layers": (4, 8, 16), "bias": (8,)}
PARAMS = zoo.tree(shapes=SHAPES)
BASE = "{'kernel': (4, 8), 'layers': (4, 4, 8), 'bias': (4,)}"
INNER = {"kernel": P("d"), "layers": P(None, "d"), "bias": P("d")}  # parts of every matrix
LAYERS = {"kernel": P(), "layers": P("d"), "bias": P()}


def steps(tx, params):
    """The updates of the first step, and of a second one with other gradients."""
    state = tx.init(params)
    first, state = tx.update(params, state, params)
    return first, tx.update(jax.tree.map(jnp.sin, params), state, params)[0]


def inside(tx, specs):
    """`steps` inside `shard_map`, as a function of the parameters on the mesh, and these."""
    mesh = jax.make_mesh((4,), ("d",))
    put = {k: jax.device_put(x, NamedSharding(mesh, specs[k])) for k, x in PARAMS.items()}
    placed = gradtx.place(tx, put)
    mapped = jax.shard_map(
        lambda p: steps(placed, p), mesh=mesh, in_specs=(specs,), out_specs=(specs, specs)
    )
    return mapped, put


@pytest.mark.parametrize("specs", [INNER, LAYERS], ids=["parts of matrices", "layers"])
@pytest.mark.parametrize(
    "code",
    [
        f"mup(adam(0.1), {BASE})",
        f"mup(sgd(0.1), {BASE}, method='sgd')",
        f"mup(chain(scale_by_shape('spectral'), decoupled_weight_decay(0.1)), {BASE})",
    ],
)
def test_mup_of_shards_is_that_of_whole_leaves(code, specs):
    tx = zoo.evaluate(code)
    mapped, put = inside(tx, specs)
    got, want = jax.jit(mapped)(put), jax.jit(lambda p: steps(tx, p))(PARAMS)
    # Every entry takes the same operations, which XLA may fuse in another way.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, want)


REFUSED = {
    "hyperball(0.1)": "hyperball",
    "radial_step(0.1)": "radial_step",
    "brake_radial(0.5)": "brake_radial",
    "floor_update_ratio(0.1)": "floor_update_ratio",
    "muown(0.1)": "weight_norm",
    "adam_mini(0.1)": "blockwise_second_moment",
    "namo(0.1)": "blockwise_second_moment",
    "soap(0.1)": "in_basis",
    "apollo(0.1)": "in_basis",
    "chain(tap('updates', orthogonality_error()), scale(0.1))": "orthogonality_error",
}


@pytest.mark.parametrize("code", REFUSED)
def test_a_sum_over_a_matrix_of_which_a_device_holds_a_part_is_refused(code):
    tx = gradtx.masked(zoo.evaluate(code), {"kernel": True, "layers": False, "bias": False})
    mapped, put = inside(tx, INNER)
    said = rf"`{REFUSED[code]}`: inside `shard_map` a device holds a part of `kernel`"
    with pytest.raises(ValueError, match=said + r", of the shape \(2, 16\) of \(8, 16\)"):
        jax.eval_shape(mapped, put)


@pytest.mark.parametrize(
    "code", ["hyperball(0.1)", "chain(matrix_norm(rms=True), floor_update_ratio(0.1))"]
)
def test_layers_of_a_stack_are_whole_matrices(code):
    tx = gradtx.masked(zoo.evaluate(code), {"kernel": True, "layers": True, "bias": False})
    mapped, put = inside(tx, LAYERS)
    got, want = jax.jit(mapped)(put), jax.jit(lambda p: steps(tx, p))(PARAMS)
    # Sums of 128 squares in another order, a root and a few products.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6 * np.abs(y).max()),
        got,
        want,
    )
