"""Matrices that travel between devices in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rounding import roundings

import gradtx
from benchmarks.hlo import lowered_collectives

SHAPE = (8, 16)


def placed(kind, count=8):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType[kind],))
    columns = NamedSharding(mesh, P(None, "x"))
    largest = jnp.finfo(jnp.float32).max
    drawn = jax.random.normal(jax.random.key(0), (count, *SHAPE)).at[0, 0, 0].set(largest)
    return {f"w{i}": jax.device_put(x, columns) for i, x in enumerate(drawn)}


@pytest.mark.parametrize("name", ["muon", "normuon", "adamuon", "scion"])
def test_matrices_take_half_the_bytes_in_the_lowered_program(name):
    """Everything that travels in a step of these optimizers is matrices, but for the rows of NorMuon."""
    params = placed("Explicit")

    def sent(dtype):
        tx = getattr(gradtx, name)(0.1, steps=1, exchange_dtype=dtype)
        step = jax.jit(lambda g, state, p: tx.update(g, state, p))
        text = step.lower(params, jax.eval_shape(tx.init, params), params).as_text()
        return sum(x.bytes for x in lowered_collectives(text))

    rows = 2 * 4 * len(params) * SHAPE[1] // 8 if name == "normuon" else 0
    matrices = 2 * 4 * len(params) * SHAPE[0] * SHAPE[1] // 8
    assert sent(None) == matrices + rows
    assert sent("bfloat16") == matrices // 2 + rows


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_entries_are_rounded_to_bfloat16_twice_and_stay_finite(kind):
    params = placed(kind)

    class negate(gradtx.Matrixwise):
        exchange_dtype: str | None = None
        linear = True
        keeps_zero = True

        def update_matrix(self, x, state):
            return -x, state

    tx = negate(exchange_dtype="bfloat16")
    update = jax.jit(lambda g: tx.update(g, tx.init(g))[0])
    assert "bf16" in update.lower(params).as_text()
    for u, g in zip(*map(jax.tree.leaves, (update(params), params)), strict=True):
        # The largest number of bfloat16 is 2^-9 smaller than that of float32.
        np.testing.assert_allclose(
            -np.asarray(u), np.asarray(g), rtol=roundings(2, "bfloat16"), atol=0
        )


def test_a_dtype_without_the_range_of_float32_is_refused():
    with pytest.raises(ValueError, match="small entries of a matrix are zero in float16"):
        gradtx.muon(0.1, exchange_dtype="float16")
