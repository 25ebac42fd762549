"""A sweep: one training function, many optimizers and seeds, one compiled program per group.

The numbers of an optimizer are arguments of the compiled program. So optimizers that differ in numbers
only share a program, and every other difference (a flag, a word, another class) makes a group with a
program of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from gradtx._core.authors import described
from gradtx._core.function_arguments import check_arguments
from gradtx._training.candidates import candidates
from gradtx._training.members import groups
from gradtx._training.progress import Progress
from gradtx._training.runner import Runner
from gradtx._training.sweep_result import SweepResult
from gradtx._training.training_call import check_call, score_function, seed_list, split_arrays


def sweep(
    train: Callable[..., Any],
    txs: Iterable[Any] | optax.GradientTransformation,
    *args: Any,
    seeds: int | Iterable[int] | None = None,
    score: Callable[[Any], Any] | str | None = None,
    chunk: int | None = None,
    memory: float | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool | str = True,
) -> SweepResult:
    r"""Train with every optimizer of a batch, and compare the results.

    `train(tx, *args)` returns the score, which is a number that should be small, such as a validation
    loss. `sweep` compiles one program for all optimizers that differ in numbers only. A different flag
    or class takes a program of its own. An optimizer whose score is infinite or NaN has diverged, and
    that is a result like any other.

    Args:
        train: a function that `jax.jit` can compile: `train(tx, *args)`, or `train(tx, *args, key=key)`
            if there are seeds. It returns the score, or anything from which `score` takes it.
        txs: the optimizers: a `grid`, `samples`, a list, or one optimizer whose numbers are arrays, such
            as `stack` returns it.
        args: more arguments of `train`. Arrays in them are arguments of the compiled program, and
            everything else is a constant of the program.
        seeds: a number of seeds, or a list of them. Every optimizer then trains once per seed, with
            `key=jax.random.key(seed)`. The default is one training without a key.
        score: which part of the result is the score: a function of the result, or the name of an entry.
            The default is the whole result. The lowest score is the best, so negate an accuracy.
        chunk: how many optimizers train at the same time on each device, by `jax.vmap`. With 1, they
            train one after the other, and each result is bit for bit what `jax.jit(train)` computes.
            The default is 1 on CPUs, where more at a time is not faster, and on other devices as many as
            fit into the memory.
        memory: how many bytes the compiled program may take on each device. If it is given and `chunk`
            is not, as many optimizers train at the same time as fit into it. The default is 80% of the
            memory that is free.
        devices: the devices to spread the optimizers over, such as `jax.devices()`. The default is one
            device.
        progress: whether a sweep that takes longer than two seconds shows its progress on the standard
            error stream. A string is shown beside the progress.

    The result prints as a table. It has the attributes `txs`, `settings` (the values of the swept
    hyperparameters of each optimizer), `seeds`, `scores` (with one row per optimizer and one column per
    seed), `results` (what `train` returned for each optimizer, with a first axis for the seeds if there
    are seeds), `diverged`, `mean`, `standard_error`, `order` (from the best optimizer to the worst),
    `best` (the best optimizer) and `edges` (the hyperparameters whose best value is the lowest or the
    highest that was tried). Its method `records()` returns one flat dictionary per training, which
    `pandas.DataFrame` takes.

    Raises:
        TypeError: if `txs` does not hold optimizers, if `train` does not take a key although there are
            seeds, or if the score is not a single number.
        ValueError: if there are no optimizers, if there are no seeds, or if `chunk` is not positive.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> def train(tx):
    ...     def step(carry, _):
    ...         w, state = carry
    ...         updates, state = tx.update(2 * w, state, w)
    ...         return (gradtx.apply_updates(w, updates), state), None
    ...
    ...     w = jnp.ones(())
    ...     (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=10)
    ...     return w**2
    >>> print(gradtx.sweep(train, gradtx.grid(gradtx.sgd, learning_rate=[0.01, 0.1, 0.4, 2.0])))
    learning_rate  score
    -------------  ---------
             0.01     0.6676
              0.1    0.01153
              0.4  1.049e-14  best
                2  3.487e+09
    """
    # `check_call` has more to say about `train`.
    check_arguments(sweep, {k: v for k, v in locals().items() if k != "train"})
    optimizers, settings = candidates(txs)
    named = seed_list(seeds)
    check_call(train, args, named)
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((optimizers, args))):
        raise TypeError(
            "`sweep` runs programs and looks at their results, so it cannot be a part of a function "
            "that is compiled or differentiated. Inside it, use `jax.vmap` with `stack` and `axes`."
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"`sweep(chunk={chunk})` must be a positive integer.")
    if devices is not None and not all(isinstance(d, jax.Device) for d in devices):
        raise TypeError(
            "`sweep(devices=...)` must be a list of devices, such as `jax.devices()`, not "
            f"{described(devices)}."
        )
    score_of = score_function(score)
    dynamic, rebuild = split_arrays(args)

    rebuild_result: Callable[[list[Any]], Any] = list

    def body(tx: Any, key: Any, arrays: Any) -> tuple[Any, list[Any]]:
        nonlocal rebuild_result
        given = {} if key is None else {"key": key}
        result = train(tx, *rebuild(arrays), **given)
        # A model may hold functions, which a compiled program cannot return.
        returned, rebuild_result = split_arrays(result, bool, int, float, complex)
        return score_of(result), returned

    columns = max(len(named or ()), 1)
    found: list[list[Any]] = [[None] * columns for _ in optimizers]
    with Progress(
        len(optimizers) * columns, "sweep" if progress is True else progress or ""
    ) as bar:
        for group in groups(optimizers, named):
            runner = Runner(body, group, dynamic, chunk, memory, devices)
            for (row, column), (value, returned) in runner.outcomes():
                found[row][column] = value, rebuild_result(returned)
                bar.advance()
    return _collected(optimizers, settings, named, found)


def _collected(
    txs: list[Any], settings: list[dict[str, Any]], seeds: tuple[int, ...] | None, found: Any
) -> SweepResult:
    """The outcomes of all trainings as one result."""
    scores = np.array([[float(score) for score, _ in row] for row in found])
    results = [
        row[0][1] if seeds is None else jax.tree.map(_stacked, *(result for _, result in row))
        for row in found
    ]
    return SweepResult(tuple(txs), tuple(settings), seeds, scores, tuple(results))


def _stacked(*entries: Any) -> Any:
    if isinstance(entries[0], jax.Array):
        return jnp.stack(entries)  # the keys of random numbers, which NumPy cannot hold
    return np.stack(entries) if isinstance(entries[0], np.ndarray | np.generic) else entries[0]
