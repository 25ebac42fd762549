"""How equal the shares of the devices are if the matrices of a model differ in shape.

A group is padded to a multiple of the devices. So fewer groups are less padding, and wide and tall
matrices are one group where both are sharded along their longer axis and the layout is known.
"""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives, products

LAYERS, M, N = 12, 16, 64
# The operations of one step of Newton-Schulz for a matrix.
WORK = {n: 4 * M * M * n + 2 * M**3 for n in (M, N)}
LONGER, FIRST = "longer axis", "first axis"


def counted(name, kind, layout, *, placed=False):
    """What a device computes, and the collectives of matrix size, for 12 layers on 8 devices."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType[kind],))

    def sharded(m, n):
        spec = P("x") if layout == FIRST or m > n else P(None, "x")
        return jax.ShapeDtypeStruct((m, n), jnp.float32, sharding=NamedSharding(mesh, spec))

    layer = {name: sharded(M, M) for name in "qkvo"} | {"up": sharded(M, N), "down": sharded(N, M)}
    params = {f"layer{i}": layer for i in range(LAYERS)}
    tx = getattr(gradtx, name)(0.1, steps=1)
    tx = gradtx.place(tx, params) if placed else tx
    shardings = gradtx.state_shardings(tx, params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
    )
    out = jax.tree.map(lambda x: x.sharding, params), shardings
    lowered = jax.jit(tx.update, out_shardings=out).lower(params, state, params)
    text = lowered.compile({"xla_backend_optimization_level": 0}).as_text()
    size = 4 * M * M * LAYERS / 8
    large = Counter(c.kind for c in collectives(text) for _ in range(c.runs) if c.bytes > size)
    return products(text).flops, large


@pytest.mark.parametrize("name", ["muon", "scion"])
@pytest.mark.parametrize(("kind", "placed"), [("Explicit", False), ("Auto", True)])
def test_matrices_sharded_along_their_longer_axis_are_equal_shares(name, kind, placed):
    """48 squares and 24 long matrices are multiples of 8, and take two exchanges each."""
    flops, large = counted(name, kind, LONGER, placed=placed)
    assert 8 * flops == LAYERS * (4 * WORK[M] + 2 * WORK[N])
    assert large == {"all-to-all": 4}


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [("muon", "Explicit", FIRST), ("muon", "Auto", LONGER), ("normuon", "Explicit", LONGER)],
)
def test_other_matrices_are_padded_in_two_groups(name, kind, layout):
    """12 wide and 12 tall matrices are padded to 16 each. The rows of NorMuon tell wide from tall."""
    flops, large = counted(name, kind, layout)
    assert flops == 6 * WORK[M] + 2 * 2 * WORK[N]
    assert large == {"all-to-all": 6}
