"""The rules of the race: how a rate is chosen, and on which seeds and rows the result is reported.

1. Every optimizer is tried at the same number of learning rates, with the same `CHOOSING_SEEDS`. The
   best rate has the lowest mean loss on the validation rows.
2. If the best rate is the first or the last one, the grid is extended beyond it, at most `EXTENSIONS`
   times. If the best rate is then still at an edge, a line below the table says so.
3. The optimizer trains at its best rate with seeds that were not used to choose the rate, and is
   evaluated on the test rows. Nothing that chooses a rate sees the test rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from .data import Task
from .racers import RATE_FACTORS, learning_rate, weight_decay
from .training import Trainer, seconds_per_step, with_rate_times

CHOOSING_SEEDS = (0, 1, 2)
FRESH_SEEDS = 10
EXTENSIONS = 3  # how often a grid may be extended, each time by a decade
ACCURACY_GOAL = 0.95


class Run(NamedTuple):
    """What came of one optimizer.

    `validation` holds the validation loss after the last step as `[rates, choosing seeds]`, and NaN
    where the training diverged. `start` is the mean loss before the first step. `best` is the index of
    the best rate, and `edge` says whether it is the "lowest" or the "highest" of the grid. `loss` and
    `accuracy` are `[fresh seeds, evaluations]`, on the test rows.
    """

    name: str
    decay: str
    rates: np.ndarray
    validation: np.ndarray
    start: float
    best: int
    edge: str
    steps: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    seconds_per_step: float
    state_bytes: int

    @property
    def diverged(self) -> np.ndarray:
        """Whether a training diverged that served to choose the rate, as `[rates, choosing seeds]`."""
        return np.isnan(self.validation)

    @property
    def steps_to_goal(self) -> np.ndarray:
        """The steps after which each fresh seed first had the accuracy `ACCURACY_GOAL`, or infinity."""
        reached = self.accuracy >= ACCURACY_GOAL
        return np.where(reached.any(axis=1), self.steps[np.argmax(reached, axis=1)], np.inf)


def best_rate(validation: np.ndarray) -> int:
    """The index of the best rate: the fewest seeds that diverged, then the lowest mean loss."""
    lost = np.isnan(validation)
    count = np.maximum((~lost).sum(axis=1), 1)
    mean = np.where(lost, 0, validation).sum(axis=1) / count
    return int(np.lexsort((np.where(lost.all(axis=1), np.inf, mean), lost.sum(axis=1)))[0])


def edge(validation: np.ndarray) -> str:
    """Whether the best rate is the "lowest" or the "highest", or empty if neither or all diverged."""
    if np.isnan(validation).all():
        return ""
    return {0: "lowest", len(validation) - 1: "highest"}.get(best_rate(validation), "")


def race(
    name: str,
    tx: Any,
    task: Task,
    steps: int,
    seed: int,
    fresh: int = FRESH_SEEDS,
    done: Callable[[], None] = lambda: None,
) -> Run:
    """Choose the learning rate of `tx` by the rules above, and train with it on fresh seeds."""
    trainer = Trainer(task, steps, seed)

    def tried(factors: np.ndarray) -> Any:
        jobs = [(with_rate_times(tx, f), s) for f in factors for s in CHOOSING_SEEDS]
        histories = trainer.run_all(jobs, (task.valid_x, task.valid_y), done)
        ends = [np.nan if h.diverged else h.loss[-1] for h in histories]
        return np.reshape(ends, (len(factors), -1)), float(np.mean([h.loss[0] for h in histories]))

    factors = RATE_FACTORS
    validation, start = tried(factors)
    for _ in range(EXTENSIONS):
        beyond = np.geomspace(1, 10, 4)[1:] * factors[-1]
        if (side := edge(validation)) == "lowest":
            beyond = np.geomspace(0.1, 1, 4)[:-1] * factors[0]
        if not side:
            break
        order = np.argsort(np.append(factors, beyond))
        validation = np.concatenate([validation, tried(beyond)[0]])[order]
        factors = np.append(factors, beyond)[order]
    best = best_rate(validation)
    chosen = with_rate_times(tx, factors[best])
    unseen = range(len(CHOOSING_SEEDS), len(CHOOSING_SEEDS) + fresh)
    histories = trainer.run_all([(chosen, s) for s in unseen], (task.test_x, task.test_y), done)
    params = trainer.params(0)
    return Run(
        name,
        decay=weight_decay(tx),
        rates=learning_rate(tx) * factors,
        validation=validation,
        start=start,
        best=best,
        edge=edge(validation),
        steps=trainer.shape[1] * np.arange(trainer.shape[0] + 1),
        loss=np.stack([h.loss for h in histories]),
        accuracy=np.stack([h.accuracy for h in histories]),
        seconds_per_step=seconds_per_step(tx, params),
        state_bytes=sum(x.nbytes for x in jax.tree.leaves(tx.init(params))),
    )
