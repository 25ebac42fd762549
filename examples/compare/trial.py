"""One training run, as a function of the optimizer, a seed and the data, which compiles once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import gradtx

from .problem import Problem

EVALUATIONS = 25  # how often a run computes its scores, equally far apart


def trial(problem: Problem) -> Callable[[Any, jax.Array, Any], tuple[jax.Array, jax.Array]]:
    """A compiled function `(tx, key, data)` that trains from the start that the key draws.

    An optimizer is a pytree, so its numbers are arguments of the compiled program. Every learning rate,
    every second number and every seed runs the same program.

    The function returns both scores before the first step and after each `EVALUATIONS`-th part of the
    run, at the parameters that the optimizer evaluates.
    """

    def run(tx: Any, key: jax.Array, data: Any) -> tuple[jax.Array, jax.Array]:
        key_of_start, key_of_batches = jax.random.split(key)
        params, world = problem.draw(key_of_start, data)
        state = tx.init(params)

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry

            def loss(params: Any) -> jax.Array:
                return problem.loss(params, world, key)

            value, gradients = jax.value_and_grad(loss)(params)
            # Some optimizers need the loss or further gradients. What is not used is not computed.
            updates, state = tx.update(
                gradients, state, params, value=value, grad_fn=jax.grad(loss), obj_fn=loss
            )
            return (gradtx.apply_updates(params, updates), state), None

        def scores(params: Any, state: Any) -> tuple[jax.Array, jax.Array]:
            return problem.scores(gradtx.eval_params(tx, params, state), world)

        def train_then_score(carry: Any, keys: Any) -> Any:
            carry, _ = jax.lax.scan(step, carry, keys)
            return carry, scores(*carry)

        keys = jax.random.split(key_of_batches, (EVALUATIONS, problem.steps // EVALUATIONS))
        first = scores(params, state)
        _, later = jax.lax.scan(train_then_score, (params, state), keys)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)

    return jax.jit(run)


def steps_at(problem: Problem) -> list[int]:
    """The steps at which a run computes its scores."""
    return [i * (problem.steps // EVALUATIONS) for i in range(EVALUATIONS + 1)]
