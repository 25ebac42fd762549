"""`mup`: the learning rates of a narrow network, carried to a wide one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import same

import gradtx
from gradtx import adamuon, adamw, chain, clip_by_global_norm, muon, mup, normuon, scion, sgd


def shapes(width):
    hidden = {"kernel": (width, width), "bias": (width,)}
    return {"embed": (5, width), "layers": [hidden, hidden], "head": {"kernel": (width, 3)}}


NARROW, WIDE = zoo.tree(shapes=shapes(4)), zoo.tree(shapes=shapes(16))
GRADIENT = zoo.tree(seed=1, shapes=shapes(16))


def ratios(tx, inner, g, params):
    """Update by update, the quotient of what `tx` and `inner` do in the first step."""
    a, b = (x.update(g, x.init(params), params)[0] for x in (tx, inner))
    quotient = jax.tree.map(lambda a, b: np.asarray(a / b, np.float64).round(5), a, b)
    assert all(np.ptp(x) == 0 for x in jax.tree.leaves(quotient))
    return {k: float(jax.tree.leaves(v)[-1].flat[0]) for k, v in quotient.items()} | {
        "bias": float(quotient["layers"][0]["bias"][0])
    }


@pytest.mark.parametrize(
    ("inner", "options", "embed", "hidden", "head", "bias"),
    [
        # Yang et al. 2022, table 3: Adam has 1/fan-in for hidden and output matrices, SGD has fan-out
        # for inputs and biases, 1/fan-in for outputs. In table 8 the model multiplies the outputs.
        (adamw(0.1, weight_decay=0.0), {}, 1, 1 / 4, 1 / 4, 1),
        (adamw(0.1, weight_decay=0.0), {"output_multiplier": True}, 1, 1 / 4, 1, 1),
        (sgd(0.1), {"method": "sgd"}, 4, 1, 1 / 4, 4),
        (sgd(0.1), {"method": "sgd", "output_multiplier": True}, 4, 1, 4, 4),
        # Orthogonal steps: the spectral norm of a square matrix's step does not grow with the width.
        (muon(0.1), {}, 1, 1 / 2, 1 / 4, 1),
        (normuon(0.1, scaling="spectral"), {}, 1, 1, 1 / 4, 1),
        (muon(0.1, scaling="original"), {}, 1, 1, 1 / 4, 1),
        (adamuon(0.1, weight_decay=0.0), {}, 1, 1 / 2, 1 / 4, 1),
        (scion(0.1, constrained=False), {}, 1, 1, 1, 1),
    ],
    ids=str,
)
def test_the_factors_are_those_of_the_papers(inner, options, embed, hidden, head, bias):
    got = ratios(mup(inner, NARROW, **options), inner, GRADIENT, WIDE)
    want = {"embed": embed, "layers": hidden, "head": head, "bias": bias}
    assert got == pytest.approx(want, rel=1e-4)  # quotients of rounded numbers, to five digits


@pytest.mark.parametrize(
    "inner",
    [
        adamw(0.1, weight_decay=0.5, mask=gradtx.by_rank(2)),
        adamw(0.1, weight_decay=lambda step: 0.5),
        chain(clip_by_global_norm(1.0), muon(0.1, weight_decay=0.5)),
        scion(0.25),
    ],
    ids=str,
)
def test_rate_times_decay_and_the_state_stay_the_same(inner):
    tx, zero = mup(inner, NARROW), jax.tree.map(jnp.zeros_like, WIDE)
    a, state = tx.update(zero, tx.init(WIDE), WIDE)
    b, want = inner.update(zero, inner.init(WIDE), WIDE)
    same(a, b)  # the factors are powers of two
    same(state, want)


@pytest.mark.parametrize("inner", [adamw(0.1), muon(0.1, weight_decay=0.1)], ids=str)
def test_without_growth_nothing_changes(inner):
    tx = mup(inner, WIDE)
    same(*(x.update(GRADIENT, x.init(WIDE), WIDE) for x in (tx, inner)))


def network(params, x):
    x = params["embed"][x]
    hidden = []
    for layer in params["layers"]:
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
        hidden.append(x)
    return x @ params["head"]["kernel"], hidden


def moved(tx, width):
    """How far the hidden units and the outputs of a network of this width move in four steps, as RMS."""
    params = zoo.tree(shapes=shapes(width))
    for layer in params["layers"]:
        layer["kernel"] /= np.sqrt(width)
    params["head"]["kernel"] *= 0
    x, y = jnp.arange(5), jnp.eye(5)[:, :3]
    start, state = network(params, x), tx.init(params)

    def step(carry, _):
        params, state = carry
        g = jax.grad(lambda p: jnp.mean((network(p, x)[0] - y) ** 2))(params)
        updates, state = tx.update(g, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, state), length=4)
    rms = lambda a, b: float(jnp.sqrt(jnp.mean((a - b) ** 2)))
    return [
        rms(a, b) for a, b in zip(*map(jax.tree.leaves, (network(params, x), start)), strict=True)
    ]


@pytest.mark.parametrize("inner", [adamw(3e-3), muon(1e-2)], ids=str)
def test_coordinates_move_equally_far_at_every_width(inner):
    tx = mup(inner, jax.eval_shape(lambda: zoo.full(1.0, shapes=shapes(32))))
    narrow, wide = (np.array(moved(tx, width)) for width in (32, 256))
    assert np.abs(np.log2(wide / narrow)).max() < 0.3  # the width itself grows by 2**3
    plain = np.array(moved(inner, 256)) / np.array(moved(inner, 32))
    assert plain.max() > 2  # which is what the factors prevent


def test_the_base_is_kept_as_shapes_and_checked():
    tx = mup(sgd(0.1), jax.eval_shape(lambda: {"w": jnp.ones((2, 3))}))
    assert repr(tx) == "mup(sgd(0.1), {'w': (2, 3)})" and zoo.evaluate(repr(tx)) == tx
    assert gradtx.parse(repr(tx)) == tx
    for params in ({"v": jnp.ones((2, 3))}, {"w": jnp.ones(3)}):
        with pytest.raises(ValueError, match=r"`mup`: the leaf `[vw]` of shape .*in `base`"):
            tx.init(params)
    for make, says in (
        (lambda: mup(sgd(0.1), {}), None),
        (lambda: mup(sgd(0.1), 3), "base"),
        (lambda: mup(sgd(0.1), NARROW, method="lion"), "'adam' or 'sgd'"),
        (lambda: mup(sgd(0.1), NARROW, axes=gradtx.by_rank(2)), "axes"),
    ):
        if says is None:
            make().init({})
            continue
        with pytest.raises((TypeError, ValueError), match=says):
            make()


def test_it_is_swept_and_differentiated():
    txs = gradtx.stack([mup(adamw(x), NARROW) for x in (0.1, 0.2)])
    step = lambda tx: tx.update(GRADIENT, tx.init(WIDE), WIDE)[0]
    got = jax.vmap(step, in_axes=(gradtx.axes(txs),))(txs)
    one = step(mup(adamw(0.2), NARROW))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-6), got, one)
    slope = jax.grad(lambda tx: jnp.sum(step(tx)["head"]["kernel"]))(mup(adamw(0.1), NARROW))
    assert np.isfinite(slope.inner.learning_rate)
