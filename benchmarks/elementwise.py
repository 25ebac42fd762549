"""Elementwise optimizers: bytes moved, memory, time, and what Python spends on many leaves."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx
from benchmarks.harness import (
    Program,
    Row,
    build,
    interleaved,
    quotient,
    ratio,
    size,
    stepping,
    trace,
)

Tree = dict[str, Any]
RATE = 1e-3
# The same optimizer by name in both libraries, the bytes that a hand-fused step moves for a float32
# parameter on XLA:CPU, and its temporaries, in copies of the parameters. Every output is a loop of its
# own there: what two outputs need is read twice, or stored if it is dear (the root in AdaDelta).
PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any], int, int]] = {
    "sgd": (
        lambda: gradtx.sgd(RATE, momentum=0.9),
        lambda: optax.sgd(RATE, momentum=0.9),
        24,
        0,
    ),
    "adamw": (lambda: gradtx.adamw(RATE), lambda: optax.adamw(RATE), 40, 0),
    "adagrad": (lambda: gradtx.adagrad(RATE), lambda: optax.adagrad(RATE), 28, 0),
    "rmsprop": (lambda: gradtx.rmsprop(RATE), lambda: optax.rmsprop(RATE), 28, 0),
    "adadelta": (lambda: gradtx.adadelta(RATE), lambda: optax.adadelta(RATE), 56, 1),
}


def parameters(leaves: int, *shape: int) -> Tree:
    """A tree of normal numbers."""
    keys = jax.random.split(jax.random.key(0), leaves)
    return {f"leaf{i}": jax.random.normal(key, shape) for i, key in enumerate(keys)}


def gradients(params: Tree) -> Tree:
    return jax.tree.map(lambda x: jnp.cos(x) / 10, params)


def step_of(tx: Any, apply: Callable[..., Any]) -> Callable[..., Any]:
    """The donated step: parameters and state come first, so that each buffer finds its successor."""

    def step(params: Tree, state: Any, gradients: Tree) -> tuple[Tree, Any]:
        updates, state = tx.update(gradients, state, params)
        return apply(params, updates), state

    return step


def fused_adamw(params: Tree, state: Any, gradients: Tree) -> tuple[Tree, Any]:
    """AdamW written out by hand, as one map over the tree."""
    mu, nu, count = state
    count = count + 1
    time = count.astype(jnp.float32)
    gain1, gain2 = -jnp.expm1(time * jnp.log(0.9)), -jnp.expm1(time * jnp.log(0.999))
    mu = jax.tree.map(lambda m, g: m + (1 - 0.9) * (g - m), mu, gradients)
    nu = jax.tree.map(lambda v, g: v + (1 - 0.999) * (g * g - v), nu, gradients)

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - RATE * (m / gain1 / (jnp.sqrt(v / gain2) + 1e-8) + 1e-4 * p)

    return jax.tree.map(moved, params, mu, nu), (mu, nu, count)


def rows(quick: bool, say: Callable[[str], None]) -> Iterator[Row]:
    """The part of the table about elementwise optimizers."""
    many = parameters(400, 64, 4)
    yield from _python(many, 5 if quick else 15, say)
    few = parameters(16, 256, 1024) if quick else parameters(16, 1024, 1024)
    yield from _jitted(few, 5 if quick else 21, say)


def _python(params: Tree, rounds: int, say: Callable[[str], None]) -> Iterator[Row]:
    grads = gradients(params)
    sides = {
        "ours": (gradtx.adamw(RATE), gradtx.apply_updates),
        "optax": (optax.adamw(RATE), optax.apply_updates),
    }
    states = {name: tx.init(params) for name, (tx, _) in sides.items()}

    say("trace and lower")
    times: dict[str, list[float]] = {"ours": [], "optax": []}
    for _ in range(2 + rounds // 3):
        for name, (tx, apply) in sides.items():
            times[name].append(trace(step_of(tx, apply), params, states[name], grads)[0])
    traced = quotient(times["ours"][1:], times["optax"][1:])
    yield Row(
        "adamw, 400 leaves: trace and lower", "optax", "<= 0.4", str(traced), traced.median <= 0.4
    )

    say("un-jitted update")

    def updates(name: str) -> Any:
        # Five in a row, as a training loop has them: what stands before each round empties the
        # processor's caches, and the shorter side would pay more for it.
        tx, state = sides[name][0], states[name]
        for _ in range(5):
            _, state = tx.update(grads, state, params)
        return state

    eager = ratio(rounds, lambda: updates("ours"), lambda: updates("optax"))
    yield Row(
        "adamw, 400 leaves: un-jitted update", "optax", "<= 0.2", str(eager), eager.median <= 0.2
    )


def _jitted(params: Tree, rounds: int, say: Callable[[str], None]) -> Iterator[Row]:
    grads, count = gradients(params), size(params)
    for name, (ours, theirs, goal, copies) in PAIRS.items():
        if not hasattr(gradtx, name):
            continue
        say(name)
        programs, runs = [], []
        for tx, apply in ((ours(), gradtx.apply_updates), (theirs(), optax.apply_updates)):
            state = tx.init(params)
            programs.append(build(step_of(tx, apply), params, state, grads, donate=(0, 1)))
            runs.append(stepping(programs[-1], params, state, grads))
        if name == "adamw":
            zeros = jax.tree.map(jnp.zeros_like, params)
            state = zeros, jax.tree.map(jnp.copy, zeros), jnp.int32(0)
            programs.append(build(fused_adamw, params, state, grads, donate=(0, 1)))
            runs.append(stepping(programs[-1], params, state, grads))
        each = [program.bytes / count for program in programs]
        yield Row(
            f"{name}: bytes per parameter",
            f"optax {each[1]:.1f}",
            f"<= {goal}",
            f"{each[0]:.1f}",
            each[0] <= goal + 0.1,
        )
        yield _temporary(name, programs, params, copies)
        times = interleaved(rounds, *runs)
        for other, peer in zip(("optax", "hand-fused"), times[1:], strict=False):
            yield _parity(f"{name}: jitted step", other, quotient(times[0], peer))

    say("clip and adamw")
    programs, runs = [], []
    for library, apply in ((gradtx, gradtx.apply_updates), (optax, optax.apply_updates)):
        tx = library.chain(library.clip_by_global_norm(1.0), library.adamw(RATE))
        state = tx.init(params)
        programs.append(build(step_of(tx, apply), params, state, grads, donate=(0, 1)))
        runs.append(stepping(programs[-1], params, state, grads))
    # XLA charges a conditional with its dearer branch: here that for norms whose squares overflow.
    branch = build(scaled_norm, jax.tree.leaves(params)).bytes
    moved = (programs[0].bytes - branch) / programs[1].bytes
    yield Row("clip and adamw: bytes", "optax", "<= 0.73", f"{moved:.3f}", moved <= 0.735)
    # The norm that no square can overflow is a branch of its own, and holds one leaf of the sixteen.
    yield _temporary("clip and adamw", programs, params, 1 / len(params))
    taken = ratio(rounds, *runs)
    yield Row("clip and adamw: jitted step", "optax", "<= 0.65", str(taken), taken.median <= 0.65)


def scaled_norm(leaves: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The norm as a factor and the norm of what is divided by it, which no square can overflow."""
    unit = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in leaves]))
    return unit, jnp.sqrt(sum(jnp.sum(jnp.square(x / unit)) for x in leaves))


def _temporary(name: str, programs: list[Program], params: Tree, goal: float) -> Row:
    ours, theirs = (program.temporary / (4 * size(params)) for program in programs[:2])
    return Row(
        f"{name}: temporary memory, in copies of the parameters",
        f"optax {theirs:.2f}",
        f"<= {goal:.3g}",
        f"{ours:.3f}",
        ours <= goal + 1e-3,  # scalars are no arrays
    )


def _parity(what: str, against: str, measured: Any) -> Row:
    return Row(what, against, "<= 1.05", str(measured), measured.median <= 1.05)
