"""Training with one optimizer: a program that is compiled once, for all learning rates and all seeds.

An optimizer is an argument of the program, like the seed's weights and batches, so another rate does not
compile again. `examples/sweep.py` does the same with `gradtx.sweep`, in a few lines.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradtx

from .data import Task
from .errors import RaceError
from .network import accuracy, cross_entropy, initial_params

BATCH_SIZE = 128
# How often a run computes its loss and its accuracy on rows that it does not train on.
EVALUATIONS = 50


class History(NamedTuple):
    """The losses and the accuracies of one training, from before the first step to after the last."""

    loss: np.ndarray
    accuracy: np.ndarray

    @property
    def diverged(self) -> bool:
        """Whether the loss at the end is not below the loss at the start."""
        return not self.loss[-1] < self.loss[0]


class Trainer:
    """Trains with optimizers that differ in their numbers only; compiles once.

    A seed decides the initial weights and the batches. The split of the rows does not depend on it.
    """

    def __init__(self, task: Task, steps: int, seed: int) -> None:
        self.task, self.seed, self.shape = task, seed, schedule_of_evaluations(steps)
        self.program = jax.jit(train)
        self.falling = np.linspace(1, 0, np.prod(self.shape), endpoint=False, dtype=np.float32)

    def params(self, seed: int) -> Any:
        """The initial weights of a seed."""
        key = jax.random.fold_in(jax.random.key(self.seed), seed)
        return initial_params(key, self.task.train_x.shape[1], self.task.classes)

    def run(self, tx: Any, seed: int, held_out: tuple[jax.Array, jax.Array]) -> History:
        """Train with `tx` from the weights of a seed, and evaluate on the rows that are held out."""
        train_rows = self.task.train_x, self.task.train_y
        chosen = np.random.default_rng((self.seed, seed))
        rows = chosen.integers(len(self.task.train_x), size=(*self.shape, BATCH_SIZE))
        falling = self.falling.reshape(self.shape)
        history = self.program(tx, self.params(seed), train_rows, held_out, (rows, falling))
        return History(*map(np.asarray, history))

    def run_all(
        self, jobs: Iterable[tuple[Any, int]], held_out: Any, done: Callable[[], None]
    ) -> list[History]:
        """`run` for every pair of an optimizer and a seed, on two cores if there are two."""

        def one(job: tuple[Any, int]) -> History:
            history = self.run(*job, held_out)
            done()
            return history

        jobs = list(jobs)
        first = one(jobs[0])  # It compiles, which the others need not do again.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 2)) as pool:
            return [first, *pool.map(one, jobs[1:])]


def train(tx: Any, params: Any, rows: Any, held_out: Any, batches: Any) -> Any:
    """One training: the losses and the accuracies on the rows that are held out.

    `batches` is a pair of arrays: the numbers of the rows of each batch, and the factors by which the
    learning rate is multiplied, which fall towards zero. The first axis of both counts the evaluations,
    and the second one counts the steps before each of them.
    """
    x, y = rows

    def step(carry: Any, batch: Any) -> Any:
        (params, state), (rows, rate_factor) = carry, batch
        gradients = jax.grad(cross_entropy)(params, x[rows], y[rows])
        updates, state = with_rate_times(tx, rate_factor).update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    def evaluate(params: Any) -> tuple[jax.Array, jax.Array]:
        return cross_entropy(params, *held_out), accuracy(params, *held_out)

    def train_then_evaluate(carry: Any, batches: Any) -> Any:
        carry, _ = jax.lax.scan(step, carry, batches)
        return carry, evaluate(carry[0])

    first = evaluate(params)
    _, later = jax.lax.scan(train_then_evaluate, (params, tx.init(params)), batches)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)


def with_rate_times(tx: Any, factor: Any) -> Any:
    """`tx` with every learning rate in it multiplied by `factor`."""
    return jax.tree_util.tree_map_with_path(lambda p, x: x * factor if is_rate(p) else x, tx)


def is_rate(path: Any) -> bool:
    """Whether the last entry of a path in an optimizer is a learning rate."""
    return bool(path) and getattr(path[-1], "name", None) == "learning_rate"


def schedule_of_evaluations(steps: int) -> tuple[int, int]:
    """The numbers of evaluations and of steps before each; their product is at least `steps`."""
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
