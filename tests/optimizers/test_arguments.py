"""Hyperparameters that have no meaning are refused when the optimizer is made."""

import jax
import jax.numpy as jnp
import pytest
from zoo import exactly

from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    muon,
    nadam,
    nadamw,
    rmsprop,
    scale_by_full_matrix_adagrad,
    sgd,
)  # fmt: skip


@pytest.mark.parametrize(
    "recipe", [sgd, adagrad, rmsprop, adadelta, adam, adamw, amsgrad, nadam, nadamw, muon]
)
def test_a_negative_rate_ascends(recipe):
    """A number, an array and a schedule alike: the updates are those of the positive rate, negated."""
    params = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]])}
    if recipe is muon:
        params["b"] = jnp.ones(2)  # for its auxiliary optimizer
    decay = {"weight_decay": 0.0} if recipe in (adamw, nadamw, muon) else {}

    def step(rate):
        tx = recipe(rate, **decay)
        return tx.update(params, tx.init(params), params)[0]

    want = jax.tree.map(jnp.negative, step(0.1))
    for rate in (-0.1, jnp.float32(-0.1), lambda count: jnp.float32(-0.1)):
        exactly(step(rate), want)


INVALID = [
    lambda: sgd(0.1, momentum=-0.5),
    lambda: sgd(0.1, momentum=1.5),
    lambda: sgd(0.1, 0.9, dampening=1.5),
    lambda: sgd(0.1, weight_decay=-1),
    lambda: adagrad(0.1, initial_accumulator_value=-1),
    lambda: adagrad(0.1, eps=-1e-8),
    lambda: adagrad(0.1, lr_decay=-1),
    lambda: scale_by_full_matrix_adagrad(-1.0),
    lambda: rmsprop(0.1, decay=2.0),
    lambda: rmsprop(0.1, decay=1.0),
    lambda: rmsprop(0.1, eps=-1.0),
    lambda: rmsprop(0.1, initial_scale=-1.0),
    lambda: adadelta(rho=1.0),
    lambda: adadelta(eps=0.0),
    lambda: adam(0.1, b1=1.0),
    lambda: adam(0.1, b2=1.0),
    lambda: adam(0.1, eps=-1e-8),
    lambda: adam(0.1, eps_root=-1e-8),
    lambda: adam(0.1, nesterov=True, b1=1.5),
    lambda: adamw(0.1, weight_decay=-0.1),
    lambda: adamw(0.1, decay_mode="both"),
    lambda: amsgrad(0.1, b2=-0.1),
    lambda: nadam(0.1, momentum_decay=-1),
    lambda: muon(0.1, beta=1.0),
]


@pytest.mark.parametrize("make", INVALID, ids=range(len(INVALID)))
def test_a_number_out_of_its_range_is_refused(make):
    with pytest.raises(ValueError):
        make()
