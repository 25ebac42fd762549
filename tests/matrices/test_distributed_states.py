"""The state of matrices on a mesh stays where it lies, so that the next step is not compiled again."""

from importlib.util import find_spec

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx

LINE, GRID = ((8,), ("d",)), ((4, 2), ("d", "m"))
# What a group of leaves passes through: exchanges of known and of unknown layouts, and sums in place.
TRANSFORMATIONS = {
    "normuon": lambda: gradtx.normuon(0.1, steps=1),
    "rows": gradtx.scale_by_neuron_rms,
    "kept norms": lambda: gradtx.keep_norm(
        gradtx.chain(gradtx.orthogonalize_newton_schulz(steps=1), gradtx.scale_by_neuron_rms())
    ),
    "averaged": lambda: gradtx.averaged(gradtx.normuon(0.1, steps=1)),
}
STACKS = [
    ("normuon", GRID, P(None, "d", "m")),
    *((name, LINE, P(None, None, "d")) for name in TRANSFORMATIONS),
]


@pytest.mark.skipif(
    not find_spec("jax.experimental.shard_alike"),
    reason="JAX 0.12 cannot ask for the same sharding",
)
@pytest.mark.parametrize(("name", "axes", "spec"), STACKS)
def test_rows_of_a_stack_on_auto_axes_stay_where_they_lie(name, axes, spec):
    """One program serves all steps, since the state that a step returns lies as the state before it."""
    mesh = jax.make_mesh(*axes, axis_types=(AxisType.Auto,) * len(axes[0]))
    x = jax.random.normal(jax.random.key(0), (8, 8, 16))
    params = {"stack": jax.device_put(x, NamedSharding(mesh, spec))}
    tx = TRANSFORMATIONS[name]()
    shardings = gradtx.state_shardings(tx, params)
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    step = jax.jit(tx.update)
    for _ in range(3):
        updates, state = step(params, state, params)
    assert step._cache_size() == 1
    assert updates["stack"].sharding.is_equivalent_to(params["stack"].sharding, 3)
    lie = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), state, shardings)
    assert jax.tree.all(lie), jax.tree.map(lambda x: x.sharding.spec, state)
    rows = [x for x in jax.tree.leaves(state) if x.shape == (8, 1, 16)]
    assert rows and all(x.sharding.spec == P(None, None, spec[-1]) for x in rows)
