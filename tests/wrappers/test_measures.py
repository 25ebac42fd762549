"""Measures against NumPy float64, for entries of every size, and the classes of a user."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import roundings
from zoo import tree

import gradtx
from gradtx import (
    chain,
    clip,
    clip_by_global_norm,
    clipped_fraction,
    gradient_cosine,
    gradient_noise_scale,
    nonfinite_count,
    norm,
    orthogonality_error,
    readings,
    scale,
    tap,
    update_ratio,
    update_rms,
)

SHAPES = {"blocks": [{"kernel": (5, 3), "bias": (3,)}, {"kernel": (3, 2)}], "head": (4,)}


def read(tx, g, params=None, **extra):
    """The readings of a first step, as Python numbers."""
    _, state = jax.jit(tx.update)(g, tx.init(g), params, **extra)
    return {name: float(x) for name, x in readings(state).items()}


def measured(measure, g, params=None, before=None, **extra):
    """What a tap behind `before` reads."""
    tx = tap("t", measure) if before is None else chain(before, tap("t", measure))
    return {name.partition("/")[2]: x for name, x in read(tx, g, params, **extra).items()}


def wide(tree):
    return [
        np.asarray(x, "complex128" if jnp.iscomplexobj(x) else "float64")
        for x in jax.tree.leaves(tree)
    ]


def length(tree):
    """The norm of a tree in float64, whose squares neither overflow nor vanish for float32 entries."""
    return np.sqrt(sum(np.sum(np.abs(x) ** 2) for x in wide(tree)))


# Each summand is rounded once, and again in each of the additions; the root halves all of this.
CLOSE = roundings(40, "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1.0, 1e9, 1e19, 1e36])
def test_norms_and_ratios_neither_overflow_nor_vanish(size, dtype):
    g, p = tree(dtype, 1, SHAPES, size), tree(dtype, 2, SHAPES, 3.0)
    small = jax.tree.map(lambda x: x * jnp.asarray(1e-3, x.dtype), g)
    got = read(tap("t", (norm(), update_rms(), update_ratio())), small, p)
    n = sum(x.size for x in jax.tree.leaves(g))
    want = {
        "t/global_norm": length(small),
        "t/update_rms": length(small) / np.sqrt(n),
        "t/update_ratio": length(small) / length(p),
    }
    if size < 1e-18:  # entries of 1e-33: their squares have few digits in either scale
        got, want = (x | {"t/global_norm": 0.0} for x in (got, want))
        return np.testing.assert_allclose(got["t/update_rms"], want["t/update_rms"], atol=1e-31)
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, rtol=CLOSE, err_msg=name)


def test_norm_of_entries_of_very_different_sizes_is_that_of_the_largest():
    g = {"a": jnp.array([3e30, 1.0]), "b": jnp.array([4e30, 1e-30])}
    assert np.isclose(measured(norm(), g)["global_norm"], 5e30, rtol=1e-6)
    # 100,000 equal entries at the norm where the second scale takes over: none of their squares is lost.
    for norm_ in (2.0**27 * 0.99, 2.0**27 * 1.01):
        x = {"x": jnp.full((100, 1000), norm_ / np.sqrt(1e5))}
        assert np.isclose(measured(norm(), x)["global_norm"], norm_, rtol=1e-5)


def test_in_64_bits_readings_are_float64_and_measure_numbers_of_that_range():
    with jax.enable_x64(True):
        g = {"a": jnp.array([3e200, 4e200], "float64"), "b": jnp.array([0.0], "float32")}
        tx = tap("t")
        _, state = tx.update(g, tx.init(g))
        assert state.readings["t/global_norm"].dtype == "float64"
        np.testing.assert_allclose(state.readings["t/global_norm"], 5e200, rtol=1e-15)


def test_what_is_not_finite_shows():
    g = {"a": jnp.array([1.0, jnp.inf]), "b": jnp.array([jnp.nan, 2.0, -jnp.inf])}
    assert measured(nonfinite_count(), g) == {"nonfinite_count": 3.0}
    assert measured(nonfinite_count(per="leaf"), g) == {
        "nonfinite_count/a": 1.0,
        "nonfinite_count/b": 2.0,
    }
    for measure in (norm(), update_rms(), gradient_cosine(), update_ratio()):
        (x,) = measured(measure, g, jax.tree.map(jnp.ones_like, g)).values()
        assert np.isnan(x)
    assert measured(norm(), {"a": jnp.array([1.0, jnp.inf])}) == {"global_norm": np.inf}


@pytest.mark.parametrize(
    "per, names",
    [
        ("tree", ["global_norm"]),
        ("layer", ["norm/blocks/0", "norm/blocks/1", "norm/head"]),
        (1, ["norm/blocks", "norm/head"]),
        (
            "leaf",
            ["norm/blocks/0/bias", "norm/blocks/0/kernel", "norm/blocks/1/kernel", "norm/head"],
        ),
    ],
)
def test_a_reading_covers_the_tree_a_layer_or_a_leaf(per, names):
    g = tree(shapes=SHAPES)
    got = measured(norm(per=per), g)
    assert sorted(got) == names
    for name, x in got.items():
        node = g
        for part in name.split("/")[1:]:
            node = node[int(part) if part.isdigit() else part]
        np.testing.assert_allclose(x, length(node), rtol=CLOSE)


def test_a_layer_is_the_path_up_to_the_first_number_or_the_module_of_the_leaf():
    group = norm(per="layer").group
    paths = {
        "h/0/attn/c_attn/kernel": "h/0",
        "Block_3/Dense_0/kernel": "Block_3",
        "mlp/~/linear_0/w": "mlp/~/linear_0",
        "wte/embedding": "wte",
        "kernel": "kernel",
    }
    assert {path: group(path) for path in paths} == paths


def test_cosine_with_the_gradient_is_that_of_the_whole_optimizer_s_gradient():
    g = tree(seed=1, shapes=SHAPES)
    assert np.isclose(
        measured(gradient_cosine(), g, before=scale(-0.1))["gradient_cosine"], -1, atol=1e-6
    )
    sign = gradtx.scale_by_sign()
    inner = sum(np.sum(np.abs(x)) for x in wide(g))
    want = inner / length(g) / np.sqrt(sum(x.size for x in wide(g)))
    for size in (1.0, 1e30, 1e-25):
        sized = jax.tree.map(lambda x, s=size: x * s, g)
        got = measured(gradient_cosine(), sized, before=sign)["gradient_cosine"]
        np.testing.assert_allclose(got, want, rtol=2 * CLOSE)
    zero = jax.tree.map(jnp.zeros_like, g)
    assert measured(gradient_cosine(), zero) == {"gradient_cosine": 0.0}


def test_fraction_clipped_is_the_share_of_entries_or_whether_the_norm_was_clipped():
    g = {"a": jnp.array([0.5, -3.0, 0.0]), "b": jnp.array([2.0, 1.0])}
    assert measured(clipped_fraction(), g, before=clip(1.0)) == {"clipped_fraction": 0.5}
    for limit, want in ((100.0, 0.0), (1.0, 1.0)):
        got = measured(clipped_fraction(), g, before=clip_by_global_norm(limit))
        assert got == {"clipped_fraction": want}


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 4, 4)])
@pytest.mark.parametrize("size", [1.0, 1e30, 1e-30])
def test_orthogonality_error_is_the_spread_of_the_squared_singular_values(shape, size):
    x = np.random.default_rng(0).normal(size=shape)
    squares = np.linalg.svd(x.reshape(-1, *shape[-2:]), compute_uv=False) ** 2
    want = np.sqrt(np.mean((squares.std(1) / squares.mean(1)) ** 2))
    g = {"kernel": jnp.asarray(size * x, "float32"), "bias": jnp.ones(3)}
    got = measured(orthogonality_error(), g)["orthogonality_error"]
    np.testing.assert_allclose(
        got, want, rtol=1e-5
    )  # the Gram matrix and its square: 40 roundings each
    q = np.linalg.qr(x)[0] if len(shape) == 2 and shape[0] > shape[1] else None
    if q is not None:
        orthogonal = {"kernel": jnp.asarray(size * q, "float32")}
        assert measured(orthogonality_error(), orthogonal)["orthogonality_error"] < 1e-6
    zero = {"kernel": jnp.zeros(shape)}
    assert measured(orthogonality_error(), zero) == {"orthogonality_error": 0.0}


def test_orthogonality_error_leaves_out_what_is_not_a_hidden_matrix():
    g = {"embed": jnp.ones((4, 3)), "kernel": jnp.eye(3), "bias": jnp.ones(3)}
    assert measured(orthogonality_error(per="leaf"), g) == {"orthogonality_error/kernel": 0.0}


def test_noise_scale_is_that_of_gradients_with_known_mean_and_covariance():
    # Examples of mean m and variance s**2 in each of n entries: the scale is n s**2 / |m|**2.
    n, m, s, k, b, steps = 50, 0.3, 2.0, 4, 8, 400
    rng = np.random.default_rng(0)
    small = m + s / np.sqrt(b) * rng.normal(size=(steps, k, n))
    tx = tap("g", gradient_noise_scale(micro_batch_size=b, decay=0.999))

    def body(state, small):
        norms = jnp.linalg.norm(small, axis=1)
        return tx.update(jnp.mean(small, 0), state, micro_batch_norms=norms)[1], None

    small = jnp.asarray(small, "float32")
    state, _ = jax.lax.scan(body, tx.init(jnp.zeros(n)), small)
    want = s**2 / m**2
    # The error of each average over 400 steps is 5% at most: three standard errors of |G|**2.
    np.testing.assert_allclose(readings(state)["g/gradient_noise_scale"], want, rtol=0.1)
    # The averages themselves are those of the two unbiased estimators in float64.
    x = np.asarray(small, "float64")
    large, single = (x.mean(1) ** 2).sum(-1), (x**2).sum(-1).mean(-1)
    weights = 0.001 * 0.999 ** np.arange(steps)[::-1]
    signal = np.sum(weights * (k * large - single) / (k - 1))
    noise = np.sum(weights * b * k / (k - 1) * (single - large))
    np.testing.assert_allclose(state.memory[0], (signal, noise), rtol=1e-5)


def test_noise_scale_says_what_it_needs():
    tx, g = tap("g", gradient_noise_scale()), jnp.ones(3)
    with pytest.raises(
        ValueError, match=r"`g/gradient_noise_scale` needs the argument `micro_batch_norms`"
    ):
        tx.update(g, tx.init(g))
    with pytest.raises(ValueError, match=r"at least two norms.*shape \(1,\)"):
        tx.update(g, tx.init(g), micro_batch_norms=jnp.ones(1))
    with pytest.raises(ValueError, match="must be 'tree'"):
        gradient_noise_scale(per="leaf")


class share_above(gradtx.Measure):
    """A user's measure with a number: the share of entries above a limit."""

    limit: gradtx.Hyper = 1.0

    def entries(self, update, param, gradient):
        above = (jnp.abs(update) > self.limit).astype(update.dtype)
        return above, jnp.ones_like(above)

    def value(self, above, count):
        return above / count


def test_a_user_s_measure_with_a_number_is_swept_without_compiling_again():
    g, traces = {"a": jnp.array([0.5, 2.0, 3.0, 4.0])}, []

    @jax.jit
    def f(tx):
        traces.append(tx)
        return readings(tx.update(g, tx.init(g))[1])["t/share_above"]

    txs = [tap("t", share_above(limit)) for limit in (1.0, 2.5)]
    assert [float(f(tx)) for tx in txs] == [0.75, 0.5] and len(traces) == 1
    batch = gradtx.stack(txs)
    assert jax.vmap(f, in_axes=(gradtx.axes(batch),))(batch).tolist() == [0.75, 0.5]


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: norm(per="row"), r"`norm\(per=...\)` must be 'tree', 'layer', 'leaf' or a number"),
        (lambda: norm(per=0), "from 1 on, not 0"),
        (lambda: norm(per=True), "not True"),
        (lambda: tap("t", norm), "not `norm` itself; call it"),
        (lambda: tap("t", "norm"), "must be a measure, such as `norm"),
        (lambda: tap(3), r"`tap\(name=3\)` must be a string"),
        (lambda: tap(""), "must not be empty"),
        (
            lambda: orthogonality_error(3),
            "must be a rule that says which axes of a leaf are its matrix",
        ),
        (
            lambda: tap("t", (norm(), norm())).init({"a": jnp.ones(2)}),
            "both record `t/global_norm`",
        ),
        (lambda: measured(gradtx.Measure(), {"a": jnp.ones(2)}), "does not define `entries`"),
    ],
)
def test_mistakes_are_sentences(make, says):
    with pytest.raises((TypeError, ValueError), match=says):
        make()


def shares(params, updates, measure):
    """The readings of a measure at the end of an optimizer with these updates."""
    tx = gradtx.tap("step", measure)
    _, state = jax.jit(tx.update)(updates, tx.init(params), params)
    return {name: float(x) for name, x in gradtx.readings(state).items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn"])
def test_updates_are_rounded_away_where_the_parameter_does_not_change(dtype):
    rng = np.random.default_rng(0)
    p, u = rng.uniform(1, 2, 999), rng.normal(size=999) * np.exp2(rng.uniform(-20, 1, 999))
    params, updates = jnp.asarray(p).astype(dtype), jnp.asarray(np.where(p > 1.9, 0, u), "f4")
    wide = np.asarray(params, "f4")
    still = (wide + np.asarray(updates)).astype(params.dtype).astype("f4") == wide
    want = np.float32(np.sum(still & (updates != 0)) / np.sum(updates != 0))
    assert 0.2 < want < 0.95
    assert shares(params, updates, gradtx.rounded_away()) == {"step/rounded_away": want}
    # A float32 run shows what it would lose.
    got = shares(jnp.asarray(wide), updates, gradtx.rounded_away(dtype=dtype))
    assert got == {"step/rounded_away": want}


def test_what_is_rounded_away_is_known_for_every_leaf_and_dtype():
    params = {
        "low": jnp.ones(4, jnp.bfloat16),
        "high": jnp.ones(4),
        "z": jnp.ones(2, jnp.complex64),
    }
    updates = jax.tree.map(lambda p: jnp.full_like(p, 1e-3), params)
    got = shares(params, updates, gradtx.rounded_away(per="leaf"))
    # The gradient is bfloat16 as well, but 0.001 is not a number of it, which does not matter here.
    assert got == {f"step/rounded_away/{name}": float(name == "low") for name in params}
    assert gradtx.rounded_away(dtype="bfloat16", per="leaf") == gradtx.parse(
        "rounded_away('bfloat16', per='leaf')"
    )
    zero = jax.tree.map(jnp.zeros_like, params)
    assert shares(params, zero, gradtx.rounded_away()) == {"step/rounded_away": 0.0}


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
@pytest.mark.parametrize("size", [1e-30, 1e10, 1e20, 1e30])
def test_a_leaf_of_one_entry_has_its_norm_whatever_its_size(shape, size):
    """XLA multiplies constants with each other where an array has one entry."""
    tx = tap("in", (norm(), gradient_cosine()))
    params = {"gain": jnp.zeros(shape)}
    _, state = jax.jit(tx.update)({"gain": jnp.full(shape, size)}, tx.init(params), params)
    read = gradtx.readings(state)
    want = size * np.sqrt(np.prod(shape))
    np.testing.assert_allclose(read["in/global_norm"], want, rtol=roundings(8, "float32"))
    np.testing.assert_allclose(read["in/gradient_cosine"], 1, rtol=roundings(8, "float32"))
