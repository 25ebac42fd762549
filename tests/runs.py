"""Running optimizers in one compiled loop, and reading off what they did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import gradtx


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _loop(txs, gradients, length, params, rows):
    def body(carry, row):
        after, seen = [], []
        for tx, (params, state) in zip(txs, carry, strict=True):
            g = gradients(params) if rows is None else row
            updates, state = tx.update(g, state, params)
            params = gradtx.apply_updates(params, updates)
            after.append((params, state))
            seen.append((updates, params))
        return after, seen

    return jax.lax.scan(body, [(params, tx.init(params)) for tx in txs], rows, length)[1]


def run_all(txs, gradients, params0=None, steps=None, dtype="float64"):
    """A list with (updates, points after them) of each of `txs`, one row for each step.

    All of them run side by side in one program, which compiles several times faster than one program
    for each. `gradients` has one row for each step, or is a function of the point (then `steps` says
    how many). Gradients and parameters are an array or a tree of arrays.
    """
    with jax.enable_x64(dtype in ("float64", "complex128")):
        cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
        rows = None if callable(gradients) else cast(gradients)
        params0 = (
            jax.tree.map(lambda x: np.zeros(x.shape[1:]), rows) if params0 is None else params0
        )
        function = gradients if rows is None else None
        seen = _loop(tuple(txs), function, steps, cast(params0), rows)
        return jax.tree.map(np.asarray, seen)


def run(tx, gradients, params0=None, steps=None, dtype="float64"):
    """(updates, points after them) of one optimizer, one row for each step: see `run_all`."""
    return run_all([tx], gradients, params0, steps, dtype)[0]


def steps_of(txs, gradients, **options):
    """The updates of each of `txs` alone. A dictionary of optimizers gives a dictionary."""
    if isinstance(txs, dict):
        return dict(zip(txs, steps_of(txs.values(), gradients, **options), strict=True))
    return [updates for updates, _ in run_all(txs, gradients, **options)]


def steps(tx, gradients, **options):
    """The updates of one optimizer alone."""
    return steps_of([tx], gradients, **options)[0]


def points_of(txs, gradients, params0, n, **options):
    """The points alone of each of `txs`, the first one included."""
    seen = run_all(txs, gradients, params0, n, **options)
    return [np.stack([params0, *points]) for _, points in seen]


def points(tx, gradients, params0, n, **options):
    """The points alone of one optimizer, the first one included."""
    return points_of([tx], gradients, params0, n, **options)[0]


def step_matrices(tx, curvatures):
    """(A, B) for each of `curvatures`: one step on a quadratic of that curvature maps (theta, state)
    by A, and noise in the gradient by B.

    For optimizers whose state is linear in the gradients; counts and recorded rates are not part of it.
    """
    with jax.enable_x64(True):
        theta = jnp.zeros((), "float64")
        leaves, structure = jax.tree.flatten(tx.init(theta))
        linear = [i for i, x in enumerate(leaves) if x.dtype == jnp.float64]
        linear = [i for i in linear if leaves[i] is not _recorded_rate(tx, leaves, structure)]

        def step(vector, noise, curvature):
            state = list(leaves)
            for i, x in zip(linear, vector[1:], strict=True):
                state[i] = x
            g = curvature * vector[0] + noise
            update, new = tx.update(g, structure.unflatten(state), vector[0])
            new = jax.tree.leaves(new)
            return jnp.stack([vector[0] + update, *(new[i] for i in linear)])

        at = jnp.zeros(1 + len(linear)), jnp.zeros(())
        slopes = jax.jit(jax.vmap(lambda c: jax.jacobian(step, (0, 1))(*at, c)))
        return list(zip(*map(np.asarray, slopes(jnp.asarray(curvatures, "float64"))), strict=True))


def _recorded_rate(tx, leaves, structure):
    return gradtx.get(structure.unflatten(leaves), "last_learning_rate")


def rng(*key):
    """Random numbers that do not depend on which tests ran before."""
    return np.random.default_rng(key)


def normal(*shape):
    return rng(*shape).normal(size=shape)


def rotation(n):
    return np.linalg.qr(normal(n, n))[0]
