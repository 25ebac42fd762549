"""Training with one optimizer at a whole grid of learning rates, in one compiled program.

`gradtx.stack` makes one optimizer value of many, `gradtx.axes` says what is mapped in it, and
`jax.vmap` maps the training over it.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from race_data import RaceError, Task

import gradtx

FACTORS = 10.0 ** np.linspace(-2, 2, 13)  # three rates a decade, two decades to either side
HIDDEN = (128, 128)
BATCH = 128
LOOKS = 100  # how often a run looks at the validation and test rows
GOAL = 0.95


class Run(NamedTuple):
    """What one optimizer did. The histories have one row a learning rate, one column a look."""

    name: str
    rates: np.ndarray
    steps: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    seconds_per_step: float
    state_bytes: int

    @property
    def diverged(self) -> np.ndarray:
        """Which rates ended no better than they began, that is, than guessing, or not at a number."""
        return ~(self.loss[:, -1] < self.loss[:, 0])

    @property
    def best(self) -> int:
        """The rate with the lowest validation loss at the end."""
        return int(np.argmin(np.where(self.diverged, np.inf, self.loss[:, -1])))

    @property
    def steps_to_goal(self) -> int | None:
        """The first look at which the best rate had the accuracy, or None."""
        there = self.accuracy[self.best] >= GOAL
        return int(self.steps[np.argmax(there)]) if there.any() else None


def network(params: Any, x: jax.Array) -> jax.Array:
    """Logits of a multilayer perceptron."""
    for layer in params["hidden"]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def initial(key: jax.Array, inputs: int, classes: int) -> Any:
    """He's initialization (variance 2 / inputs) and a head of zeros: every run starts at guessing."""
    sizes = (inputs, *HIDDEN)
    keys = jax.random.split(key, len(HIDDEN))
    hidden = [
        {"kernel": float(2 / n) ** 0.5 * jax.random.normal(k, (n, m)), "bias": jnp.zeros(m)}
        for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    return {
        "hidden": hidden,
        "head": {"kernel": jnp.zeros((HIDDEN[-1], classes)), "bias": jnp.zeros(classes)},
    }


def complain(name: str, tx: Any, task: Task) -> None:
    """Raise `RaceError` if `tx` cannot train the network; asked of shapes, before anything runs."""

    def step(key: jax.Array) -> Any:
        params = initial(key, task.train_x.shape[1], task.classes)
        return tx.update(params, tx.init(params), params)

    try:
        jax.eval_shape(step, jax.random.key(0))
    except (TypeError, ValueError) as error:
        raise RaceError(f"{name} cannot train this network: {error}") from None


def cross_entropy(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = jax.nn.log_softmax(network(params, x))
    return -jnp.mean(jnp.take_along_axis(logits, y[:, None], axis=1))


def look(params: Any, task: Task) -> tuple[jax.Array, jax.Array]:
    """Validation loss and test accuracy."""
    hits = jnp.argmax(network(params, task.test_x), axis=1) == task.test_y
    return cross_entropy(params, task.valid_x, task.valid_y), jnp.mean(hits, dtype=jnp.float32)


def segment(tx: Any, params: Any, state: Any, task: Task, plan: Any) -> Any:
    """Some steps of one run and a look. `plan`: the rows and the part of the rate of each step."""

    def step(carry: Any, plan: Any) -> Any:
        (params, state), (rows, part) = carry, plan
        gradients = jax.grad(cross_entropy)(params, task.train_x[rows], task.train_y[rows])
        updates, state = at_rate(tx, part).update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, state), plan)
    return params, state, look(params, task)


def looks(steps: int) -> tuple[int, int]:
    """How many looks there are, and how many steps before each; together `steps`, rounded up."""
    every = -(-steps // LOOKS)
    return -(-steps // every), every


def race(name: str, tx: Any, task: Task, steps: int, seed: int, tick: Callable[[], None]) -> Run:
    """Train with `tx` at every learning rate of its grid, in one compiled program."""
    grid = gradtx.stack([at_rate(tx, factor) for factor in FACTORS])
    mapped = gradtx.axes(grid, learning_rate=0)
    params = initial(jax.random.key(seed), task.train_x.shape[1], task.classes)
    shape = looks(steps)
    draws = np.random.default_rng(seed).integers(len(task.train_x), size=(*shape, BATCH))
    parts = np.linspace(1, 0, draws[..., 0].size, endpoint=False, dtype=np.float32).reshape(shape)

    def start(tx: Any) -> Any:
        return params, tx.init(params), look(params, task)

    program = jax.jit(jax.vmap(segment, in_axes=(mapped, 0, 0, None, None)), donate_argnums=(1, 2))
    *run, first = jax.jit(jax.vmap(start, in_axes=(mapped,)))(grid)
    seen = [first]
    for plan in zip(draws, parts, strict=True):
        *run, last = program(grid, *run, task, plan)
        seen.append(jax.block_until_ready(last))
        tick()
    loss, accuracy = (np.stack(history, axis=1) for history in zip(*seen, strict=True))
    return Run(
        name,
        rates=learning_rate(tx) * FACTORS,
        steps=shape[1] * np.arange(len(seen)),
        loss=loss,
        accuracy=accuracy,
        seconds_per_step=seconds_per_step(tx, params),
        state_bytes=sum(x.nbytes for x in jax.tree.leaves(tx.init(params))),
    )


def seconds_per_step(tx: Any, params: Any, steps: int = 200) -> float:
    """Time of the optimizer alone, going down half the squared norm, whose gradient costs nothing."""

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

    timed()  # compiles
    return min(timed() for _ in range(5)) / steps


def _is_rate(path: Any) -> bool:
    return getattr(path[-1], "name", None) == "learning_rate"


def at_rate(tx: Any, factor: float) -> Any:
    """`tx` with every learning rate in it multiplied."""
    return jax.tree_util.tree_map_with_path(lambda p, x: x * factor if _is_rate(p) else x, tx)


def learning_rate(tx: Any) -> float:
    """The learning rate in `tx`, the first if there are several."""
    rates = [x for path, x in jax.tree_util.tree_leaves_with_path(tx) if path and _is_rate(path)]
    if not rates or not isinstance(rates[0], float) or not rates[0] > 0:
        raise RaceError(f"{tx} has no positive number as its learning rate to centre the grid on.")
    return rates[0]
