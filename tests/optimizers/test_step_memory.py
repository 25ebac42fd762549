"""What a compiled step of each optimizer moves through memory."""

import functools

import jax
import jax.numpy as jnp
import pytest

import gradtx
from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    chain,
    muon,
    nadam,
    nadamw,
    rmsprop,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
)  # fmt: skip  # fmt: skip

SYSTEMS = {
    "sgd": sgd(0.1),
    "momentum": chain(scale_by_momentum(0.9), scale_by_learning_rate(0.1)),
    "heavy_ball": sgd(0.1, 0.9),
    "heavy_ball_torch": sgd(0.1, 0.9, dampening=0.5),
    "heavy_ball_keras": sgd(0.1, 0.9, convention="keras"),
    "nesterov": sgd(0.1, 0.9, nesterov=True),
    "adagrad": adagrad(0.1),
    "adagrad_torch": adagrad(0.1, convention="torch"),
    "adagrad_full": chain(scale_by_full_matrix_adagrad(), scale_by_learning_rate(0.1)),
    "rmsprop": rmsprop(0.1),
    "rmsprop_torch": rmsprop(0.1, momentum=0.9, convention="torch"),
    "rmsprop_centered": rmsprop(0.1, centered=True),
    "rmsprop_debiased": rmsprop(0.1, bias_correction=True),
    "adadelta": adadelta(),
    "adam": adam(0.1),
    "adam_keras": adam(0.1, convention="keras"),
    "adam_root": adam(0.1, eps_root=1e-8),
    "adamw": adamw(0.1),
    "adamw_paper": adamw(0.1, schedule=lambda t: 1.0 / (1.0 + t), convention="paper"),
    "amsgrad": amsgrad(0.1),
    "amsgrad_torch": amsgrad(0.1, convention="torch"),
    "nadam": nadam(0.1),
    "nadam_torch": nadam(0.1, convention="torch"),
    "nadamw": nadamw(0.1),
    "muon": muon(0.1),
}


# What a hand-fused loop moves on XLA:CPU, which fuses each array that it writes by itself. AdaDelta's
# two averages each read what the other writes, hence its copy.
BYTES = {
    "sgd": 12, "heavy_ball": 24, "nesterov": 28, "adagrad": 28, "rmsprop": 28, "rmsprop_centered": 44,
    "adadelta": 56, "adam": 40, "adam_keras": 40, "adamw": 40, "nadam": 44, "amsgrad": 52,
}  # fmt: skip


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts bytes as XLA:CPU fuses")
@pytest.mark.parametrize("name", BYTES)
def test_a_donated_step_moves_no_byte_too_many(name):
    tx, params = SYSTEMS[name], jnp.zeros(2**18)
    state = tx.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    compiled = step.lower(params, state, params).compile()
    assert compiled.cost_analysis()["bytes accessed"] / params.size < BYTES[name] + 0.1
    temporary = compiled.memory_analysis().temp_size_in_bytes / params.nbytes
    assert temporary < (1.1 if name == "adadelta" else 0.01)
