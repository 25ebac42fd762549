"""What a step costs before it runs: Python calls of a first trace, and operations that are compiled."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.extend.core import jaxprs_in_params

import gradtx
from benchmarks import __main__ as command, results

CALLS = ["calls_of_adamw", "calls_of_muon", "calls_of_muon_with_embedding"]


def test_a_first_trace_makes_at_most_as_many_calls_as_the_goals_of_the_benchmarks_say(tmp_path):
    """The numbers do not depend on the machine. They scatter by some calls with the seed of hashes."""
    path = tmp_path / "numbers.json"
    command.main(["--quick", "--only", *CALLS, "--json", str(path)])
    entries = results.read(path)["benchmarks"]
    assert [entry["name"] for entry in entries] == CALLS
    for entry in entries:
        (number,) = entry["numbers"]
        assert number["reached"] == "yes", f"{number['case']}: {number['value']} calls"


def operations(tx, apply_updates, leaves):
    """The number of operations in a step, with the functions that it calls written out."""

    def count(jaxpr):
        inner = ([*jaxprs_in_params(x.params)] for x in jaxpr.eqns)
        return sum(sum(map(count, inside)) if inside else 1 for inside in inner)

    def step(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return apply_updates(params, updates), state

    params = {str(i): jnp.ones((4, 3)) for i in range(leaves)}
    return count(jax.make_jaxpr(step)(params, jax.eval_shape(tx.init, params), params).jaxpr)


@pytest.mark.parametrize("name, more", [("adamw", 2), ("sgd", 0), ("rmsprop", 9), ("lion", 2)])
def test_a_leaf_adds_few_operations_to_those_of_optax(name, more):
    """Compile time follows the number of operations. Three clip huge gradients, five guard a zero."""
    ours = getattr(gradtx, name)(1e-3), gradtx.apply_updates
    theirs = getattr(optax, name)(1e-3), optax.apply_updates
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        per_leaf = [operations(*side, 3) - operations(*side, 2) for side in (ours, theirs)]
    assert per_leaf[0] <= per_leaf[1] + more, per_leaf
