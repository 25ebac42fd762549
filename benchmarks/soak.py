"""Take a million steps of every recipe, and compare them with the same steps in float64.

    python -m benchmarks.soak                           all recipes, a million steps each
    python -m benchmarks.soak adam muon --steps 10000   two of them, fewer steps
    python -m benchmarks.soak adam muon --write         and put their rows on the page docs/long_runs.md

The gradients are noise and a pull towards zero, so that parameters stay small. The learning rate is a
schedule. Everything has to be finite after every chunk of steps, and the largest counter has to be the
number of steps. In the end, counters are set to shortly before their largest value, and some steps are
taken beyond it. A row in Markdown shows how far parameters and updates are from float64, and how far
those of a run in float64 are whose parameters are only stored in float32 between two steps. What no
optimizer in float32 can avoid is the second number. A recipe that fails has the error in place of these
numbers, and the exit status is 1.
"""

import argparse
import contextlib
import functools
import sys
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks import pages
from benchmarks.recipes import RATE, RECIPES, extra_arguments

STEPS, CHUNK, PERIOD = 1_000_000, 10_000, 99_991
LAST = 2**31 - 1  # the largest count
SHAPES = {"kernel": (4, 3), "bias": (3,)}
HEAD = ["Recipe", "Counters"]
for what in "parameters", "updates":
    HEAD += [f"Drift of {what}", "If only stored"]
# Far below this size, numbers in float32 have fewer digits, and then they are 0.
SMALL = float(np.finfo(np.float32).tiny / np.finfo(np.float32).eps)
normal = jax.random.normal


def noise(dtype):
    """A period of gradients: the same numbers in all dtypes.

    The period is long, since a large sum rounds the same square in the same direction each time.
    """
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=(PERIOD, *shape)) for name, shape in SHAPES.items()}
    return {name: jnp.asarray(np.float32(x), dtype) for name, x in drawn.items()}


def start(tx, dtype):
    """Parameters and state before the first step."""
    params = {name: jnp.ones(shape, dtype) for name, shape in SHAPES.items()}
    return params, tx.init(params)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def chunk(tx, stored, length, carry, first, period):
    """The parameters and the state after a chunk of steps, and the updates of all its steps."""

    def body(carry, step):
        params, state = carry
        noise = jax.tree.map(lambda x: x[step % len(x)], period)

        def loss(params):
            terms = jax.tree.map(lambda p, x: jnp.sum(0.05 * p * p + x * p), params, noise)
            return sum(jax.tree.leaves(terms))

        g = jax.tree.map(lambda p, x: 0.1 * p + x, params, noise)
        updates, state = tx.update(g, state, params, **extra_arguments(loss, params))
        params = gradtx.apply_updates(params, updates)
        if stored:  # in float32
            params = jax.tree.map(lambda p: jax.lax.reduce_precision(p, 8, 23), params)
        return (params, state), updates

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


def taken(name, tx, dtype, steps, advance, stored=False):
    """Parameters, state and the updates of the last chunk, after this many steps.

    Whether the parameters are `stored` in float32 between two steps, also in a run in float64.
    """
    length = min(CHUNK, steps)
    carry, period = start(tx, dtype), noise(dtype)
    updates = None
    for first in range(0, steps, length):
        carry, updates = chunk(tx, stored, length, carry, jnp.int32(first), period)
        check_finite(name, (carry, updates), first + length)
        check_counters(name, carry[1], first + length)
        advance(length)
    return *carry, updates


def beyond(name, tx, params, state, steps):
    """Take some steps from shortly before the largest count, at which counters have to stay."""
    counts = lambda x: x.dtype == jnp.int32 and int(x) >= steps - 1
    near = lambda x: jnp.full_like(x, LAST - 10) if counts(x) else x
    carry = params, jax.tree.map(near, state)
    carry, updates = chunk(tx, False, 100, carry, jnp.int32(0), noise("float32"))
    check_finite(name, (carry, updates), LAST)
    check_counters(name, carry[1], LAST)


def drift(got, want):
    """The largest difference of two trees by the largest entry of the second."""
    pairs = zip(*(map(np.asarray, jax.tree.leaves(x)) for x in (got, want)), strict=True)
    largest = max(np.max(np.abs(x)) for x in jax.tree.leaves(want))
    return max(np.max(np.abs(x - y)) for x, y in pairs) / max(largest, SMALL)


def drawn_in_float32(key, shape=(), dtype=np.float32, **options):
    """`jax.random.normal`, with the numbers that it draws in float32. In float64 it draws others."""
    return normal(key, shape, np.float32, **options).astype(dtype)


def soak(name, steps, advance=lambda steps: None):
    """One row of the table: the number of counters, and the drifts of parameters and of updates."""
    tx = RECIPES[name](gradtx.cosine_decay_schedule(RATE, steps, 0.1))
    params, state, updates = taken(name, tx, "float32", steps, advance)
    seen = [jax.tree.map(np.asarray, (params, updates))]
    count = len(counters(state))
    beyond(name, tx, params, state, steps)
    with jax.enable_x64(True), mock.patch("jax.random.normal", drawn_in_float32):
        for stored in (True, False):
            params, _, updates = taken(name, tx, "float64", steps, advance, stored)
            seen.append(jax.tree.map(np.asarray, (params, updates)))
    drifts = [f"{drift(got[i], seen[2][i]):.0e}" for i in range(2) for got in seen[:2]]
    return [f"`{name}`", str(count), *drifts]


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
    parser.add_argument(
        "--write", action="store_true", help="write the rows into docs/long_runs.md"
    )
    options = parser.parse_args(argv)
    if unknown := [x for x in options.names if x not in RECIPES]:
        parser.error(f"there is no recipe {unknown[0]!r}; there are {', '.join(RECIPES)}")
    if options.steps < 1 or (options.steps > CHUNK and options.steps % CHUNK):
        parser.error(f"--steps must be at most {CHUNK}, or a multiple of it")
    if options.write and options.steps != STEPS:
        parser.error(f"--write is for rows of {STEPS:,} steps")
    names = options.names or list(RECIPES)
    failed = False
    print(pages.table(HEAD, []), end="")
    begun = time.perf_counter()
    with progress(3 * options.steps * len(names)) as advance:
        for name in names:
            try:
                row = soak(name, options.steps, functools.partial(advance, name))
            except AssertionError as error:
                row, failed = [f"`{name}`", str(error), *4 * [""]], True
            print(pages.line(row), end="", flush=True)
            if options.write:
                pages.update("soak", HEAD, [row], RECIPES)
    minutes = (time.perf_counter() - begun) / 60
    print(
        f"{len(names)} recipes, {options.steps:,} steps each: {minutes:.1f} minutes",
        file=sys.stderr,
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
