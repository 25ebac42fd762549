"""Take a million steps of every recipe, and compare them with the same steps in float64.

    python -m benchmarks.soak                           all recipes, a million steps each
    python -m benchmarks.soak adam muon --steps 10000   two of them, fewer steps

The gradients are noise and a pull towards zero, so that parameters stay small. The learning rate is a
schedule. Everything has to be finite after every chunk of steps, and the largest counter has to be the
number of steps. In the end, counters are set to shortly before their largest value, and some steps are
taken beyond it. A table in Markdown shows how far parameters and updates are from float64. The page
docs/numbers.md has the result of one run.
"""

import argparse
import contextlib
import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks.recipes import RATE, RECIPES, extra_arguments

STEPS, CHUNK = 1_000_000, 10_000
LAST = 2**31 - 1  # the largest count
SHAPES = {"kernel": (4, 3), "bias": (3,)}


def noise(dtype):
    """A period of gradients: the same numbers in all dtypes."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=(997, *shape)) for name, shape in SHAPES.items()}
    return {name: jnp.asarray(np.float32(x), dtype) for name, x in drawn.items()}


def start(tx, dtype):
    """Parameters and state before the first step."""
    params = {name: jnp.ones(shape, dtype) for name, shape in SHAPES.items()}
    return params, tx.init(params)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def chunk(tx, length, carry, first, period):
    """The parameters and the state after a chunk of steps, and the updates of all its steps."""

    def body(carry, step):
        params, state = carry
        noise = jax.tree.map(lambda x: x[step % len(x)], period)

        def loss(params):
            terms = jax.tree.map(lambda p, x: jnp.sum(0.05 * p * p + x * p), params, noise)
            return sum(jax.tree.leaves(terms))

        g = jax.tree.map(lambda p, x: 0.1 * p + x, params, noise)
        updates, state = tx.update(g, state, params, **extra_arguments(loss, params))
        return (gradtx.apply_updates(params, updates), state), updates

    steps = first + jnp.arange(length, dtype=jnp.int32)
    return jax.lax.scan(body, carry, steps)


def counters(state):
    """The counters of a state: the arrays of integers."""
    return [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]


def check_finite(name, tree, steps):
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(x.dtype, jnp.inexact) and not np.all(np.isfinite(x)):
            where = jax.tree_util.keystr(path, simple=True, separator="/")
            raise AssertionError(f"{name}: `{where}` is not finite after {steps} steps.")


def check_counters(name, state, want):
    found = [int(x) for x in counters(state)]
    # Some recipes count the step to come, and some count within a period.
    if found and max(found) not in (want, min(want + 1, LAST)):
        raise AssertionError(f"{name}: the counters are {found} after {want} steps.")


def taken(name, tx, dtype, steps, advance):
    """Parameters, state and the updates of the last chunk, after this many steps."""
    length = min(CHUNK, steps)
    carry, period = start(tx, dtype), noise(dtype)
    updates = None
    for first in range(0, steps, length):
        carry, updates = chunk(tx, length, carry, jnp.int32(first), period)
        check_finite(name, (carry, updates), first + length)
        check_counters(name, carry[1], first + length)
        advance(length)
    return *carry, updates


def beyond(name, tx, params, state, steps):
    """Take some steps from shortly before the largest count, at which counters have to stay."""
    counts = lambda x: x.dtype == jnp.int32 and int(x) >= steps - 1
    near = lambda x: jnp.full_like(x, LAST - 10) if counts(x) else x
    carry = params, jax.tree.map(near, state)
    carry, updates = chunk(tx, 100, carry, jnp.int32(0), noise("float32"))
    check_finite(name, (carry, updates), LAST)
    check_counters(name, carry[1], LAST)


def drift(got, want):
    """The largest difference of two trees by the largest entry of the second."""
    pairs = zip(*(map(np.asarray, jax.tree.leaves(x)) for x in (got, want)), strict=True)
    largest = max(np.max(np.abs(x)) for x in jax.tree.leaves(want))
    return max(np.max(np.abs(x - y)) for x, y in pairs) / largest


def soak(name, steps, advance):
    """One row of the table: the drift of parameters and of updates, and the time per step."""
    tx = RECIPES[name](gradtx.cosine_decay_schedule(RATE, steps, 0.1))
    begun = time.perf_counter()
    params, state, updates = taken(name, tx, "float32", steps, advance)
    micros = (time.perf_counter() - begun) / steps * 1e6
    seen = jax.tree.map(np.asarray, (params, updates))
    count = len(counters(state))
    beyond(name, tx, params, state, steps)
    with jax.enable_x64(True):
        params, _, updates = taken(name, tx, "float64", steps, advance)
        drifts = [drift(x, y) for x, y in zip(seen, (params, updates), strict=True)]
    return [f"`{name}`", str(count), *(f"{x:.0e}" for x in drifts), f"{micros:.1f}"]


@contextlib.contextmanager
def progress(total):
    """A function to call with the number of steps that were taken; it shows a bar if `rich` is there."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda name, n: None
        return
    columns = TextColumn("{task.description:10}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda name, n: bar.update(task, advance=n, description=name)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="recipes, all of them without a choice")
    parser.add_argument("--steps", type=int, default=STEPS, help="the number of steps of each")
    options = parser.parse_args(argv)
    if unknown := [x for x in options.names if x not in RECIPES]:
        parser.error(f"there is no recipe {unknown[0]!r}; there are {', '.join(RECIPES)}")
    if options.steps < 1 or (options.steps > CHUNK and options.steps % CHUNK):
        parser.error(f"--steps must be at most {CHUNK}, or a multiple of it")
    names = options.names or list(RECIPES)
    rows = [
        ["Recipe", "Counters", "Drift of parameters", "Drift of updates", "Microseconds a step"]
    ]
    rows.append(["---"] * len(rows[0]))
    begun = time.perf_counter()
    with progress(2 * options.steps * len(names)) as advance:
        for name in names:
            rows.append(soak(name, options.steps, functools.partial(advance, name)))
    print("".join(f"| {' | '.join(row)} |\n" for row in rows), end="")
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"{len(names)} recipes, {options.steps:,} steps each: {minutes:.1f} minutes",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
