"""SOAP and its relatives against their recursions in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

STEPS = 60


def gradients(shape, steps=STEPS, seed=0):
    rng = np.random.default_rng(seed)
    # Singular values that differ, so that eigenvectors are well separated.
    scale = np.diag(1.5 ** np.arange(shape[0]))
    return [scale @ rng.normal(size=shape) for _ in range(steps)]


def step(tx, g, state, params):
    return tx.update(g, state, params)


# One compiled program serves several runs of an optimizer.
jitted = jax.jit(step, static_argnums=0)


def updates(tx, gs):
    """The updates of one leaf for these gradients, in float64."""
    with jax.enable_x64(True):
        params, out = {"kernel": jnp.zeros(gs[0].shape, "float64")}, []
        state = tx.init(params)
        for g in gs:
            u, state = jitted(tx, {"kernel": jnp.asarray(g)}, state, params)
            out.append(np.asarray(u["kernel"]))
        return out


def falling(a):
    """The eigenvectors of a symmetric matrix, by falling eigenvalue."""
    return np.linalg.eigh(a)[1][:, ::-1]


def soap(gs, rate, b1, b2, bs, eps, every, sides=(True, True), kl=False):
    """Algorithm 3 of arXiv:2409.11321, with the momentum in the coordinates of the parameters."""
    m, n = gs[0].shape
    mean, square = np.zeros((m, n)), np.zeros((m, n))
    grams = [np.zeros((m, m)), np.zeros((n, n))]
    q = [np.eye(m), np.eye(n)]

    def learn(g, first):
        new = [g @ g.T, g.T @ g]
        if kl:
            inverses = []
            for a, v in zip(grams, q, strict=True):
                values = np.diag(v.T @ a @ v)
                values = np.ones_like(values) if first else np.maximum(values, 1e-6 * values.max())
                inverses.append(v @ np.diag(1 / values) @ v.T)
            new = [g @ inverses[1] @ g.T / n, g.T @ inverses[0] @ g / m]
        for k in range(2):
            keep = 0.0 if kl and first else bs
            grams[k] = keep * grams[k] + (1 - keep) * new[k]

    out = [np.zeros((m, n))]
    learn(gs[0], True)
    q = [falling(a) if used else v for a, v, used in zip(grams, q, sides, strict=True)]
    for t, g in enumerate(gs[1:], 1):
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * (q[0].T @ g @ q[1]) ** 2
        step = (q[0].T @ mean @ q[1]) / (1 - b1**t) * np.sqrt(1 - b2**t) / (np.sqrt(square) + eps)
        out.append(-rate * (q[0] @ step @ q[1].T))
        learn(g, False)
        if t % every == 0:
            for k, used in enumerate(sides):
                if used:
                    order = np.argsort(-np.diag(q[k].T @ grams[k] @ q[k]))
                    square = np.take(square, order, axis=k)
                    q[k] = np.linalg.qr(grams[k] @ q[k][:, order])[0]
    return out


@pytest.mark.parametrize(
    ("make", "options", "shape"),
    [
        (gradtx.soap, {"every": 10}, (4, 4)),
        (gradtx.soap, {"every": 1}, (4, 4)),
        (gradtx.soap, {"every": 3, "sides": (True, False)}, (4, 6)),
        (gradtx.kl_soap, {"every": 3, "kl": True}, (4, 4)),
    ],
)
def test_updates_are_those_of_the_paper(make, options, shape):
    gs = gradients(shape)
    limit = None if all(options.get("sides", (True,))) else shape[0]
    tx = make(
        0.1,
        b1=0.9,
        b2=0.95,
        shampoo_beta=0.8,
        weight_decay=0.0,
        precondition_frequency=options["every"],
        max_precond_dim=limit,
    )
    want = soap(gs, 0.1, 0.9, 0.95, 0.8, 1e-8, **options)
    # Both compute eigenvectors to about 1e-13, and Adam divides by entries down to 1e-3.
    for got, u in zip(updates(tx, gs), want, strict=True):
        np.testing.assert_allclose(got, u, rtol=0, atol=1e-9)


def splus(gs, x, rate, b1, b2, rho, decay, every):
    """Algorithm 2 of arXiv:2506.07254 in its own words: the parameters, and their averages."""
    m, n = x.shape
    mean, grams, q = np.zeros((m, n)), [np.zeros((m, m)), np.zeros((n, n))], [np.eye(m), np.eye(n)]
    average, out = np.zeros((m, n)), []
    for t, g in enumerate(gs):
        mean = b1 * mean + (1 - b1) * g
        step = q[0] @ np.sign(q[0].T @ mean @ q[1]) @ q[1].T
        x = x - rate * 2 / (m + n) * (step + decay * x)
        grams = [b2 * a + (1 - b2) * b for a, b in zip(grams, (g @ g.T, g.T @ g), strict=True)]
        if t % every == 0:
            q = [np.linalg.eigh(a)[1] for a in grams]
        average = rho * average + (1 - rho) * x
        out.append((x, average / (1 - rho ** (t + 1))))
    return out


def test_splus_takes_signs_in_the_eigenbasis_and_averages_the_parameters():
    gs, rng = gradients((4, 4), 30), np.random.default_rng(1)
    tx = gradtx.splus(0.1, 0.8, 0.9, 0.7, 0.1, precondition_frequency=3)
    start = {"kernel": rng.normal(size=(4, 4)), "bias": rng.normal(size=4)}
    want = splus(gs, start["kernel"], 0.1, 0.8, 0.9, 0.7, 0.1, 3)
    bias, mean = start["bias"], np.zeros(4)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, start)
        state = tx.init(params)
        for g, (x, average) in zip(gs, want, strict=True):
            tree = {"kernel": jnp.asarray(g), "bias": jnp.asarray(g[0])}
            u, state = jitted(tx, tree, state, params)
            params = gradtx.apply_updates(params, u)
            mean = 0.8 * mean + 0.2 * g[0]
            bias = bias - 0.1 * 1e-3 * (np.sign(mean) + 0.1 * bias)
            got = gradtx.eval_params(tx, params, state)["kernel"]
            # Eigenvectors are computed to about 1e-13.
            np.testing.assert_allclose(params["kernel"], x, rtol=0, atol=1e-10)
            np.testing.assert_allclose(got, average, rtol=0, atol=1e-10)
            np.testing.assert_allclose(params["bias"], bias, rtol=0, atol=1e-14)
