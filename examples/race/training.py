"""Training with one optimizer at a whole grid of learning rates, in one compiled program.

`gradtx.sweep` compiles the training of one run, and runs it once for every learning rate.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
    """The history of one optimizer: `[rates]`, `[evaluations]` or `[rates, evaluations]`.

    `best` is the index of the rate with the lowest validation loss at the end. `edge` says whether that
    rate is the "lowest" or the "highest" of the grid, and is empty otherwise.
    """

    name: str
    rates: np.ndarray
    steps: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    diverged: np.ndarray
    best: int
    edge: str
    seconds_per_step: float
    state_bytes: int

    @property
    def steps_to_goal(self) -> int | None:
        """The steps after which the best rate first had the accuracy `ACCURACY_GOAL`, or None."""
        reached = self.accuracy[self.best] >= ACCURACY_GOAL
        return int(self.steps[np.argmax(reached)]) if reached.any() else None


def race(name: str, tx: Any, task: Task, steps: int, seed: int, label: str) -> Run:
    """Train with `tx` at every learning rate of its grid; `label` says on a bar which one that is."""
    params = initial_params(jax.random.key(seed), task.train_x.shape[1], task.classes)
    shape = schedule_of_evaluations(steps)
    rows = np.random.default_rng(seed).integers(len(task.train_x), size=(*shape, BATCH_SIZE))
    falling = np.linspace(1, 0, shape[0] * shape[1], endpoint=False, dtype=np.float32)
    result = gradtx.sweep(
        train,
        [with_rate_times(tx, factor) for factor in RATE_FACTORS],
        params,
        task,
        (rows, falling.reshape(shape)),
        score=final_loss,
        progress=label,
    )
    histories = [np.stack(x) for x in zip(*result.results, strict=True)]
    return Run(
        name,
        rates=learning_rate(tx) * RATE_FACTORS,
        steps=shape[1] * np.arange(shape[0] + 1),
        loss=histories[0],
        accuracy=histories[1],
        diverged=result.diverged[:, 0],
        best=int(result.order[0]),
        edge=next(iter(result.edges.values()), ""),
        seconds_per_step=seconds_per_step(tx, params),
        state_bytes=sum(x.nbytes for x in jax.tree.leaves(tx.init(params))),
    )


def train(tx: Any, params: Any, task: Task, batches: Any) -> Any:
    """One run: the validation losses and the test accuracies, before the first step and after it.

    `batches` holds for every evaluation and every step before it the rows of a batch, and the factor of
    the learning rate.
    """

    def step(carry: Any, batch: Any) -> Any:
        (params, state), (rows, rate_factor) = carry, batch
        gradients = jax.grad(cross_entropy)(params, task.train_x[rows], task.train_y[rows])
        updates, state = with_rate_times(tx, rate_factor).update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    def train_then_evaluate(carry: Any, batches: Any) -> Any:
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, evaluate(carry[0], task)

    first = evaluate(params, task)
    _, later = jax.lax.scan(train_then_evaluate, (params, tx.init(params)), batches)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)


def final_loss(history: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The loss at the end; NaN if it is not below the loss at the start, which counts as diverged."""
    losses, _ = history
    return jnp.where(losses[-1] < losses[0], losses[-1], jnp.nan)


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
