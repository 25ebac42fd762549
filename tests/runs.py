"""Running an optimizer on one array, in one compiled loop, and reading off what it did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import gradtx


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _loop(tx, gradients, length, params, rows):
    def body(carry, g):
        params, state = carry
        g = gradients(params) if rows is None else g
        updates, state = tx.update(g, state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), (updates, params)

    return jax.lax.scan(body, (params, tx.init(params)), rows, length)[1]


def run(tx, gradients, params0=None, steps=None, dtype="float64"):
    """(updates, points after them), one row a step.

    `gradients` has one row a step, or is a function of the point (then `steps` says how many).
    """
    with jax.enable_x64(dtype in ("float64", "complex128")):
        rows = None if callable(gradients) else jnp.asarray(gradients, dtype)
        params0 = np.zeros(rows.shape[1:]) if params0 is None else params0
        function = gradients if rows is None else None
        updates, points = _loop(tx, function, steps, jnp.asarray(params0, dtype), rows)
        return np.asarray(updates), np.asarray(points)


def steps(tx, gradients, **options):
    """The updates alone."""
    return run(tx, gradients, **options)[0]


def points(tx, gradients, params0, n, **options):
    """The points alone, the first one included."""
    return np.stack([params0, *run(tx, gradients, params0, n, **options)[1]])


def step_matrix(tx, curvature):
    """(A, B): one step on a quadratic of one curvature maps (theta, state) by A, noise in the gradient
    by B. For optimizers whose state is linear; counts and rates are no part of it."""
    with jax.enable_x64(True):
        theta = jnp.zeros((), "float64")
        leaves, structure = jax.tree.flatten(tx.init(theta))
        linear = [i for i, x in enumerate(leaves) if x.dtype == jnp.float64]
        linear = [i for i in linear if leaves[i] is not _recorded_rate(tx, leaves, structure)]

        def step(vector, noise):
            state = list(leaves)
            for i, x in zip(linear, vector[1:], strict=True):
                state[i] = x
            g = curvature * vector[0] + noise
            update, new = tx.update(g, structure.unflatten(state), vector[0])
            new = jax.tree.leaves(new)
            return jnp.stack([vector[0] + update, *(new[i] for i in linear)])

        at = jnp.zeros(1 + len(linear)), jnp.zeros(())
        a, b = jax.jacobian(step, (0, 1))(*at)
        return np.asarray(a), np.asarray(b)


def _recorded_rate(tx, leaves, structure):
    return gradtx.get(structure.unflatten(leaves), "last_learning_rate")


def rng(*key):
    """Numbers that do not depend on which tests ran before."""
    return np.random.default_rng(key)


def normal(*shape):
    return rng(*shape).normal(size=shape)


def rotation(n):
    return np.linalg.qr(normal(n, n))[0]
