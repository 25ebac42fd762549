"""`apply_updates`: dtypes, leaves without an update, and what does not fit."""

import jax
import jax.numpy as jnp
import pytest
from zoo import PARAMS, SMALL, same, tree

from gradtx import (
    apply_updates,
)


def test_apply_updates_adds_in_the_wider_dtype_and_keeps_the_parameters_own():
    for p, u in (("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")):
        params, updates = tree(p, shapes=SMALL), tree(u, seed=1, shapes=SMALL)
        new = apply_updates(params, updates)
        want = jax.tree.map(
            lambda a, b: (a.astype("f4") + b.astype("f4")).astype(a.dtype), params, updates
        )
        same(new, want)
        assert {x.dtype.name for x in jax.tree.leaves(new)} == {p}
    same(
        apply_updates({"a": jnp.asarray(1 + 2j)}, {"a": jnp.asarray(1j)}),
        {"a": jnp.asarray(1 + 3j)},
    )


def test_apply_updates_passes_over_what_has_none():
    params = {"a": PARAMS, "name": "dense", "n": 3, "act": jnp.tanh, "steps": jnp.arange(2)}
    updates = {"a": {"kernel": None, "bias": PARAMS["bias"]}, "name": None, "n": None, "act": None,
               "steps": None}  # fmt: skip
    new = apply_updates(params, updates)
    same(new["a"], {"kernel": PARAMS["kernel"], "bias": 2 * PARAMS["bias"]})
    assert new["act"] is jnp.tanh and new["name"] == "dense" and new["n"] == 3


def test_apply_updates_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(3,\)"):
        apply_updates({"a": jnp.ones(3)}, {"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="do not fit"):
        apply_updates(PARAMS, {"kernel": PARAMS["kernel"]})
