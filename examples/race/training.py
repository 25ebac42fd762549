"""Training with one optimizer at a whole grid of learning rates, in one compiled program.

`gradtx.stack` makes one optimizer value of many, `gradtx.axes` says which of its numbers differ, and
`jax.vmap` maps the training over them.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import gradtx

from .data import Task
from .errors import RaceError
from .network import accuracy, cross_entropy, initial_params
from .racers import RATE_FACTORS, learning_rate, with_rate_times

BATCH_SIZE = 128
EVALUATIONS = 100  # how often a run computes its validation loss and its test accuracy
ACCURACY_GOAL = 0.95


class Run(NamedTuple):
    """The history of one optimizer: `[rates]`, `[evaluations]` or `[rates, evaluations]`."""

    name: str
    rates: np.ndarray
    steps: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    seconds_per_step: float
    state_bytes: int

    @property
    def diverged(self) -> np.ndarray:
        """For each rate, whether the loss at the end is not below the loss at the start, or is NaN."""
        return ~(self.loss[:, -1] < self.loss[:, 0])

    @property
    def best(self) -> int:
        """The index of the rate with the lowest validation loss at the end."""
        return int(np.argmin(np.where(self.diverged, np.inf, self.loss[:, -1])))

    @property
    def steps_to_goal(self) -> int | None:
        """The steps after which the best rate first had the accuracy `ACCURACY_GOAL`, or None."""
        reached = self.accuracy[self.best] >= ACCURACY_GOAL
        return int(self.steps[np.argmax(reached)]) if reached.any() else None


def race(
    name: str, tx: Any, task: Task, steps: int, seed: int, on_evaluation: Callable[[], None]
) -> Run:
    """Train with `tx` at every learning rate of its grid, in one compiled program."""
    grid = gradtx.stack([with_rate_times(tx, factor) for factor in RATE_FACTORS])
    mapped = gradtx.axes(grid, learning_rate=0)
    params = initial_params(jax.random.key(seed), task.train_x.shape[1], task.classes)
    shape = schedule_of_evaluations(steps)
    rows = np.random.default_rng(seed).integers(len(task.train_x), size=(*shape, BATCH_SIZE))
    falling = np.linspace(1, 0, shape[0] * shape[1], endpoint=False, dtype=np.float32)

    def start(tx: Any) -> Any:
        return params, tx.init(params), evaluate(params, task)

    program = jax.jit(
        jax.vmap(train_then_evaluate, in_axes=(mapped, 0, 0, None, None)), donate_argnums=(1, 2)
    )
    *run, first = jax.jit(jax.vmap(start, in_axes=(mapped,)))(grid)
    evaluations = [first]
    for batches in zip(rows, falling.reshape(shape), strict=True):
        *run, last = program(grid, *run, task, batches)
        evaluations.append(jax.block_until_ready(last))
        on_evaluation()
    losses, accuracies = (np.stack(x, axis=1) for x in zip(*evaluations, strict=True))
    return Run(
        name,
        rates=learning_rate(tx) * RATE_FACTORS,
        steps=shape[1] * np.arange(len(evaluations)),
        loss=losses,
        accuracy=accuracies,
        seconds_per_step=seconds_per_step(tx, params),
        state_bytes=sum(x.nbytes for x in jax.tree.leaves(tx.init(params))),
    )


def train_then_evaluate(tx: Any, params: Any, state: Any, task: Task, batches: Any) -> Any:
    """Some steps of one run, and an evaluation after the last of them.

    `batches` holds for every step the rows of its batch, and the factor of its learning rate.
    """

    def step(carry: Any, batch: Any) -> Any:
        (params, state), (rows, rate_factor) = carry, batch
        gradients = jax.grad(cross_entropy)(params, task.train_x[rows], task.train_y[rows])
        updates, state = with_rate_times(tx, rate_factor).update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, state), batches)
    return params, state, evaluate(params, task)


def evaluate(params: Any, task: Task) -> tuple[jax.Array, jax.Array]:
    """The validation loss and the test accuracy."""
    return (
        cross_entropy(params, task.valid_x, task.valid_y),
        accuracy(params, task.test_x, task.test_y),
    )


def schedule_of_evaluations(steps: int) -> tuple[int, int]:
    """The number of evaluations, and the steps before each; their product is at least `steps`."""
    steps_between = -(-steps // EVALUATIONS)
    return -(-steps // steps_between), steps_between


def check_trainable(name: str, tx: Any, task: Task) -> None:
    """Raise `RaceError` if `tx` cannot train the network; decided from shapes, before anything runs."""

    def step(key: jax.Array) -> Any:
        params = initial_params(key, task.train_x.shape[1], task.classes)
        return tx.update(params, tx.init(params), params)

    try:
        jax.eval_shape(step, jax.random.key(0))
    except (TypeError, ValueError) as error:
        raise RaceError(f"{name} cannot train this network: {error}") from None


def seconds_per_step(tx: Any, params: Any, steps: int = 200) -> float:
    """The time that the optimizer alone takes for one step.

    The loss is half the squared norm of the parameters, whose gradient is the parameters themselves
    and takes no time.
    """

    @jax.jit
    def descend(params: Any, state: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), length=steps)[0]

    def timed() -> float:
        start = time.perf_counter()
        jax.block_until_ready(descend(params, tx.init(params)))
        return time.perf_counter() - start

    timed()  # The first call compiles.
    return min(timed() for _ in range(5)) / steps
