"""Hyperparameters that have no meaning are refused when the optimizer is made."""

import pytest

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
def test_a_negative_rate_is_refused(recipe):
    with pytest.raises(ValueError, match=r"learning_rate=-0.1.*\[0, inf\)"):
        recipe(-0.1)


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
