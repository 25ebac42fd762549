"""What an optimizer costs: the time of its own step, without the gradient, beside that of AdamW."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx

from .entrants import ENTRANTS, Entrant
from .problem import Problem
from .problems import PROBLEMS

STEPS, ROUNDS = 40, 5


def cost(problem: Problem, entrant: Entrant) -> dict[str, Any]:
    """Microseconds per step of the optimizer alone, and how many times AdamW's time that is.

    The two are timed in turn, in one process, and the ratio is the median of the ratios of the rounds.
    The loss is half the squared norm of the parameters, whose gradient takes no time. An optimizer that
    computes further gradients in its step is timed with those of this loss, so its real cost is higher.
    """
    params, reference, gradient = _reference(problem.name)
    own = _timer(entrant.tx, params)
    rounds = np.array([[own(), reference()] for _ in range(ROUNDS)])
    seconds, of_adamw = np.median(rounds, axis=0)
    ratios = rounds[:, 0] / rounds[:, 1]
    return {
        "optimizer": entrant.name,
        "microseconds": float(f"{1e6 * seconds:.4g}"),
        "adamw_microseconds": float(f"{1e6 * of_adamw:.4g}"),
        "times_adamw": float(f"{np.median(ratios):.4g}"),
        "lowest": float(f"{ratios.min():.4g}"),
        "highest": float(f"{ratios.max():.4g}"),
        "gradient_microseconds": gradient,
    }


@functools.cache
def _reference(name: str) -> tuple[Any, Callable[[], float], float]:
    """The parameters of a problem, what times AdamW on them, and the microseconds of a gradient.

    They are made once for each process.
    """
    problem = PROBLEMS[name]
    params, world = problem.draw(jax.random.key(0), problem.load())

    @jax.jit
    def gradients(params: Any, world: Any) -> Any:
        def step(params: Any, key: jax.Array) -> Any:
            g = jax.grad(problem.loss)(params, world, key)
            return jax.tree.map(lambda p, g: p - 1e-6 * g, params, g), None

        return jax.lax.scan(step, params, jax.random.split(jax.random.key(1), STEPS))[0]

    gradient = _seconds(lambda: gradients(params, world))
    median = float(np.median([gradient() for _ in range(ROUNDS)]))
    return params, _timer(ENTRANTS["adamw"].tx, params), float(f"{1e6 * median:.4g}")


def _timer(tx: Any, params: Any) -> Callable[[], float]:
    """A function that takes some steps and returns the seconds of one."""

    def loss(params: Any) -> jax.Array:
        return jnp.asarray(0.5 * sum(jnp.sum(x * x) for x in jax.tree.leaves(params)))

    @jax.jit
    def descend(params: Any, state: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            params, state = carry
            updates, state = tx.update(
                params, state, params, value=loss(params), grad_fn=jax.grad(loss), obj_fn=loss
            )
            return (gradtx.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), length=STEPS)[0]

    state = tx.init(params)
    return _seconds(lambda: descend(params, state))


def _seconds(run: Callable[[], Any]) -> Callable[[], float]:
    """A function that takes some steps and returns the seconds of one. The steps are compiled here."""
    jax.block_until_ready(run())

    def take() -> float:
        begin = time.perf_counter()
        jax.block_until_ready(run())
        return (time.perf_counter() - begin) / STEPS

    return take
