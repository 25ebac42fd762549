"""What a compiled step of each optimizer moves through memory, whatever the machine."""

import functools

import jax
import pytest

import gradtx
from gradtx import adadelta, adagrad, adam, adamw, amsgrad, nadam, rmsprop, sgd

# Bytes for each float32 parameter, as a hand-fused loop moves them on XLA:CPU, which fuses each array
# that it writes by itself: what it writes, and for each array what it reads.
BYTES = {
    "sgd": (sgd(0.1), 12),
    "heavy_ball": (sgd(0.1, 0.9), 24),
    "nesterov": (sgd(0.1, 0.9, nesterov=True), 28),
    "adagrad": (adagrad(0.1), 28),
    "rmsprop": (rmsprop(0.1), 28),
    "rmsprop_centered": (rmsprop(0.1, centered=True), 44),
    "adadelta": (adadelta(), 56),
    "adam": (adam(0.1), 40),
    "adam_keras": (adam(0.1, convention="keras"), 40),
    "adamw": (adamw(0.1), 40),
    "nadam": (nadam(0.1), 44),
    "amsgrad": (amsgrad(0.1), 52),
}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts bytes as XLA:CPU fuses")
@pytest.mark.parametrize("name", BYTES)
def test_a_donated_step_moves_no_byte_too_many(name):
    tx, most = BYTES[name]
    params = jax.ShapeDtypeStruct((2**18,), "float32")

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    compiled = step.lower(params, tx.init(params), params).compile()
    assert compiled.cost_analysis()["bytes accessed"] / params.size < most + 0.1
    # AdaDelta's two averages each read what the other one writes, hence its copy.
    temporary = compiled.memory_analysis().temp_size_in_bytes / (4 * params.size)
    assert temporary < (1.1 if name == "adadelta" else 0.01)
