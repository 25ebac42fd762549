"""`incremental_update` and `safe_increment`, beside the functions of Optax."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal
from hypothesis import given, strategies as st
from rounding import roundings

from gradtx import incremental_update, safe_increment


@given(st.floats(0, 1, width=32), st.floats(-10, 10, width=32), st.floats(-10, 10, width=32))
def test_the_average_lies_where_float64_has_it(a, x, y):
    got = incremental_update({"w": jnp.float32(x)}, {"w": jnp.float32(y)}, a)["w"]
    # The step size, the difference, both products and the sum are rounded once.
    assert abs(float(got) - (a * x + (1 - a) * y)) <= roundings(5, "float32") * (abs(x) + abs(y))


def test_old_parameters_of_a_low_precision_are_rounded_once():
    new, old = jnp.ones(3, jnp.bfloat16), jnp.full(3, 0.5, jnp.bfloat16)
    got = incremental_update(new, old, 0.3)
    assert got.dtype == jnp.bfloat16
    assert_trees_all_equal(got, jnp.full(3, 0.65, jnp.bfloat16))


def test_leaves_that_are_not_averaged_come_from_the_new_tree():
    new, old = {"n": jnp.int32(7), "none": None}, {"n": jnp.int32(3), "none": None}
    assert incremental_update(new, old, 0.5) == {"n": 7, "none": None}


def test_trees_of_two_structures_are_refused():
    with pytest.raises(ValueError):
        incremental_update({"a": jnp.ones(1)}, {"b": jnp.ones(1)}, 0.5)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int16", "float32"])
def test_a_counter_stays_at_its_largest_number(dtype):
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    for start in (0, 1, int(info.max) if dtype != "float32" else info.max):
        count = jnp.asarray(start, dtype)
        got = safe_increment(count)
        assert got.dtype == dtype and got == optax.safe_increment(count)
        assert np.isfinite(got)


def test_only_numbers_count():
    assert safe_increment(3) == 4
    for wrong in ("x", None, True, jnp.complex64(1)):
        with pytest.raises(TypeError, match="safe_increment"):
            safe_increment(wrong)
