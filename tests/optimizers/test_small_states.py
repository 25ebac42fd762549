"""Optimizers with small second moments against the recursions of their sources. In float64.

Each oracle is written from the equations of its source, and none shares code with gradtx.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose
from references import recurrence
from rounding import roundings
from runs import normal, run_all

from gradtx import adafactor, adam_mini, came, from_optax, sm3, transformer_blocks

STEPS, SHAPES = 20, {"matrix": (4, 3), "vector": (3,)}
START = {k: normal(5, *shape)[0] for k, shape in SHAPES.items()}
# The sizes of the gradients fall, so that averages of every length differ from the last square.
FALL = np.geomspace(1, 0.05, STEPS)
GRADIENTS = {
    k: normal(STEPS, *shape) * FALL.reshape(-1, *[1] * len(shape)) for k, shape in SHAPES.items()
}
# Some forty operations per step, in two runs, of which the parameters and the slowest averages keep
# those of all steps; 1 / (1 - 0.999) roundings are in the weights of the averages.
ERROR = roundings(2 * 40 * STEPS + 2 * 1000)


def rms(x):
    return np.sqrt(np.mean(x**2))


def factored(s, key, x, b):
    """The averages of Shazeer & Stern (2018), algorithm 2, over the last axis and the one before it."""
    row = s[key + "row"] = b * s.get(key + "row", 0.0) + (1 - b) * x.mean(-1, keepdims=True)
    col = s[key + "col"] = b * s.get(key + "col", 0.0) + (1 - b) * x.mean(-2, keepdims=True)
    return row, col


def second(s, x, b, key="", least=0.0):
    if x.ndim < 2:
        v = s[key + "v"] = b * s.get(key + "v", 0.0) + (1 - b) * x
        return v
    row, col = factored(s, key, x, b)
    return row * col / np.maximum(row.mean(-2, keepdims=True), least)


def clipped(u):
    return u / np.maximum(1, rms(u))


@recurrence
def paper(s, grad, x, t, *, lr=1e-2):
    """Shazeer & Stern (2018), algorithms 4 and 5, with the relative step of section 9."""
    v = second(s, grad(x) ** 2 + 1e-30, 1 - t**-0.8)
    return -min(lr, t**-0.5) * max(1e-3, rms(x)) * clipped(grad(x) / np.sqrt(v))


@recurrence
def torch(s, grad, x, t, *, lr=1e-2, eps=2.0**-23, decay=0.0):
    """torch.optim.Adafactor 2.5, as its documentation has it; the parameters decay with the raw rate."""
    v = second(s, grad(x) ** 2, 1 - t**-0.8, least=eps)
    u = clipped(grad(x) / np.maximum(np.sqrt(v), eps))
    return -lr * decay * x - min(lr, t**-0.5) * max(1e-3, rms(x)) * u


@recurrence
def transformers(s, grad, x, t, *, lr=1e-2, decay=0.0, b1=0.9):
    """The Adafactor of Hugging Face's transformers, with `relative_step` and `scale_parameter`."""
    v = second(s, grad(x) ** 2 + 1e-30, 1 - t**-0.8)
    rate = min(lr, t**-0.5) * max(1e-3, rms(x))
    s.m = b1 * s.m + (1 - b1) * rate * clipped(grad(x) / np.sqrt(v))
    return -rate * decay * x - s.m


@recurrence
def big_vision(s, grad, x, t, *, lr=1e-2, decay=0.0):
    """big_vision's scale_by_adafactor, then the rate, then a decay of its own: Zhai et al. (2021)."""
    v = second(s, grad(x) ** 2 + 1e-30, min(0.999, 1 - t**-0.8))
    s.m = 0.9 * s.m + 0.1 * grad(x) / np.sqrt(v)
    return -lr * s.m - decay * x


@recurrence
def came_by_paper(s, grad, x, t, *, lr=0.1, b1=0.9, b2=0.999, b3=0.9999, decay=0.0):
    """Luo et al. (2023), arXiv:2307.02047, algorithm 2; a vector has no instability there."""
    u = clipped(grad(x) / np.sqrt(second(s, grad(x) ** 2 + 1e-30, b2)))
    s.m = b1 * s.m + (1 - b1) * u
    if x.ndim < 2:
        return -lr * (s.m + decay * x)
    doubt = second(s, (u - s.m) ** 2 + 1e-16, b3, "doubt")
    return -lr * (s.m / np.sqrt(doubt) + decay * x)


@recurrence
def sm3_by_paper(s, grad, x, t, *, lr=0.1, b=0.9):
    """Anil et al. (2019), arXiv:1901.11150, algorithm SM3-II, where a row and a column are the cover."""
    g = grad(x)
    if x.ndim < 2:
        s.v = s.v + g**2
    else:
        s.v = np.minimum(s.row + np.zeros_like(g), s.col) + g**2
        s.row, s.col = s.v.max(1, keepdims=True), s.v.max(0, keepdims=True)
    s.m = b * s.m + (1 - b) * g / np.sqrt(s.v)
    return -lr * s.m


@recurrence
def mini(s, grad, x, t, *, lr=0.1, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, over=0):
    """Zhang et al. (2024), arXiv:2406.16793, algorithm 1, where `over` are the axes of a block."""
    g = grad(x)
    s.m = b1 * s.m + (1 - b1) * g
    s.v = b2 * s.v + (1 - b2) * np.mean(g**2, over, keepdims=True)
    root = np.sqrt(s.v / (1 - b2**t))
    return -lr * (s.m / (1 - b1**t) / (root + eps) + decay * x)


def falling(count):
    return 0.5 / (1.0 + count)


CASES = [
    (adafactor(convention="paper"), paper, {}),
    (adafactor(0.5, convention="paper"), paper, {"lr": 0.5}),
    (adafactor(convention="torch"), torch, {}),
    (
        adafactor(falling, weight_decay_rate=0.1, convention="torch"),
        torch,
        {"lr": falling, "decay": 0.1},
    ),
    (
        adafactor(convention="torch", floor=0.1),  # so large that both bounds act
        torch,
        {"eps": 0.1},
    ),
    (
        adafactor(0.3, weight_decay_rate=0.1, momentum=0.9, convention="transformers"),
        transformers,
        {"lr": 0.3, "decay": 0.1},
    ),
    (adafactor(convention="transformers"), transformers, {"b1": 0.0}),
    (
        adafactor(
            falling, 1, weight_decay_rate=0.1, dtype_momentum="float64", convention="big_vision"
        ),
        big_vision,
        {"lr": falling, "decay": 0.1},
    ),
    (came(0.1, weight_decay=0.1), came_by_paper, {"decay": 0.1}),
    (came(falling), came_by_paper, {"lr": falling}),
    (sm3(0.1, eps=0.0), sm3_by_paper, {}),
    (adam_mini(0.1, weight_decay=0.1), mini, {"decay": 0.1}),
]


def test_every_step_is_that_of_the_source():
    """All cases run side by side in one program, which compiles faster than one for each."""
    seen = run_all([tx for tx, _, _ in CASES], GRADIENTS, START)
    wrong = {}
    for (tx, system, hyper), (updates, _) in zip(CASES, seen, strict=True):
        for k in SHAPES:
            want = np.stack(system(GRADIENTS[k], START[k], **hyper))
            gap = np.max(np.abs(updates[k] - want)) / np.max(np.abs(want))
            if not gap <= ERROR:
                wrong[f"{tx!r}, {k}"] = gap
    assert not wrong


def test_adafactor_and_sm3_are_those_of_optax():
    """Optax computes the decay of the second moment in float32, of which it is 1 minus a power."""
    pairs = [
        (adafactor(0.1, 1), optax.adafactor(0.1, 1)),
        (
            adafactor(falling, 1, momentum=0.9, weight_decay_rate=0.01),
            optax.adafactor(
                falling, 1, momentum=0.9, dtype_momentum="float64", weight_decay_rate=0.01
            ),
        ),
        (sm3(0.1), optax.sm3(0.1)),
    ]
    with jax.numpy_dtype_promotion("standard"):
        seen = run_all([tx for pair in pairs for tx in pair], GRADIENTS, START)
    for (ours, _), (theirs, _) in zip(seen[::2], seen[1::2], strict=True):
        for k in SHAPES:
            assert_allclose(
                ours[k], theirs[k], 0, np.max(np.abs(theirs[k])) * roundings(64, "float32")
            )


def test_a_run_of_optaxs_adafactor_goes_on():
    ours, theirs = (
        adafactor(0.1, 2, weight_decay_rate=0.1),
        optax.adafactor(0.1, 2, weight_decay_rate=0.1),
    )
    p = jax.tree.map(jnp.float32, START)
    g = jax.tree.map(lambda x: jnp.float32(x[0]), GRADIENTS)
    _, state = theirs.update(g, theirs.init(p), p)
    want, _ = theirs.update(g, state, p)
    got, _ = ours.update(g, from_optax(ours, state, p), p)
    for k in p:
        assert_allclose(got[k], want[k], 0, np.max(np.abs(want[k])) * roundings(64, "float32"))


def test_blocks_are_heads_tokens_outputs_or_the_whole():
    rule = transformer_blocks(heads=2)

    def blocks(path, *shape):
        return rule.blocks(path, jax.ShapeDtypeStruct(shape, "float32"))

    assert blocks("attention/query/kernel", 6, 4) == (1, 2)
    assert blocks("attention/k_proj/weight", 4, 6) == (2, 1)
    assert blocks("attention/key/kernel", 6, 2, 3) == (1, 2, 1)
    assert blocks("attention/value/kernel", 6, 4) == (1, 4)
    assert blocks("embedding", 10, 6) == (10, 1)
    assert blocks("lm_head/kernel", 6, 10) == (1, 10)
    assert blocks("layers/up/kernel", 5, 6, 8) == (5, 1, 8)
    assert blocks("layers/norm/scale", 5, 8) == (5, 1)
    assert blocks("bias", 8) == (1,)
    assert blocks("temperature") == ()
    with pytest.raises(ValueError, match="does not divide the 5 outputs of `query/kernel`"):
        blocks("query/kernel", 6, 5)


def test_heads_of_one_axis_and_heads_of_their_own_axis_have_equal_second_moments():
    g = normal(STEPS, 6, 4)
    split = {"query": {"kernel": g.reshape(STEPS, 6, 2, 2)}}
    flat = {"query": {"kernel": g}}
    (u, _), (v, _) = (
        run_all([adam_mini(0.1, blocks=transformer_blocks(heads=2))], rows)[0]
        for rows in (split, flat)
    )
    assert_allclose(u["query"]["kernel"].reshape(g.shape), v["query"]["kernel"], ERROR)


def test_a_rule_whose_blocks_do_not_fit_is_refused_with_the_path():
    tx = adam_mini(0.1, blocks=transformer_blocks(heads=3))
    with pytest.raises(ValueError, match="does not divide the 4 outputs of `q/kernel`"):
        tx.init({"q": {"kernel": jnp.zeros((2, 4))}})
