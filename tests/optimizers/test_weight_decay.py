"""Weight decay alone, and beside a penalty in the loss. In float64, without a gradient."""

import closed_forms as cf
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, run_all

from gradtx import adam, adamw


def cosine(count):
    return 0.01 * (1 + jnp.cos(jnp.pi * count / 60.0))


def test_decay_alone_is_a_product():
    """Loshchilov and Hutter (2019), arXiv:1711.05101, Algorithm 2, line 12, with a gradient of zero:
    theta_t = theta_0 prod(1 - rate w), where the rate is lr times the schedule, the schedule, or 1."""
    theta = normal(4)
    rates = 0.01 * (1 + np.cos(np.pi * np.arange(60) / 60))
    decayed = {
        adamw(cosine, weight_decay=0.3): rates,
        adamw(0.1, schedule=cosine, weight_decay=0.3, decay_mode="schedule"): rates,
        adamw(0.1, weight_decay=0.3, decay_mode="absolute"): np.ones(60),
    }
    runs = run_all(decayed, np.zeros((60, 4)), theta)
    for (tx, rates), (_, points) in zip(decayed.items(), runs, strict=True):
        want = cf.decayed(theta, rates, 0.3)
        # There are a cosine, four products and a sum per step, here and in the closed form.
        assert_allclose(points[-1], want, roundings(2 * 6 * 60), err_msg=str(tx))


def test_adam_makes_steps_of_the_rate_out_of_a_penalty_whatever_its_size():
    """Loshchilov and Hutter (2019), arXiv:1711.05101, section 2: Adam divides a penalty's gradient by
    its own size, while a decoupled decay stays what it is."""
    penalties = [adam(0.01, weight_decay=w) for w in (1e-4, 1e-2, 1.0)]
    *penalized, (_, decayed) = run_all(
        [*penalties, adamw(0.01, weight_decay=1.0)], np.zeros((50, 1)), np.array([5.0])
    )
    for _, points in penalized:
        # Not of rounding: the gradient shrinks by a tenth on the way, and the averages lag behind.
        assert_allclose(points[-1], 5.0 - 50 * 0.01, atol=1e-2)
    assert_allclose(decayed[-1], 5.0 * 0.99**50, roundings(6 * 50))
