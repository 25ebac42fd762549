"""Codecs: the table of 8-bit Adam, bounds of errors, means of rounding at random, extreme numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import gradtx
from gradtx._core.codec_int8 import blocks_of
from gradtx._core.codecs import check_codec
from gradtx._core.random_bits import bits_like, seed_of

SEED = jnp.uint32(7)
NEAREST = gradtx.blockwise_int8(rounding="nearest")
CODECS = [gradtx.blockwise_int8(), NEAREST, gradtx.bfloat16_plus_8(), gradtx.bfloat16_stochastic()]
EPS = 2.0**-23


@jax.jit
def encode(codec, x, seed=SEED):
    return codec.encode(x, seed)


@jax.jit
def decode(codec, code):
    return codec.decode(code)


def roundtrip(codec, x):
    """An array after encoding and decoding, in float64."""
    return np.asarray(decode(codec, encode(codec, x)), np.float64)


def table(signed):
    """The values of the dynamic code, in ascending order, from its definition in arXiv:2110.02861.

    The first bit is the sign, or one more bit of the fraction. Zeros follow, whose number is the
    exponent of ten, then a one, and then the fraction. It counts equal parts of the interval from 0.1 to
    1, each of which stands for its middle. Two patterns are left, for 0 and for 1.
    """
    values = [0.0, 1.0]
    for zeros in range(7):
        bits = 7 - zeros - 1 + (0 if signed else 1)
        edges = np.linspace(0.1, 1, 2**bits + 1)
        middles = 10.0**-zeros * (edges[:-1] + edges[1:]) / 2
        values += [*middles, *(-middles if signed else [])]
    assert len(set(values)) == 256
    return np.sort(values)


def draw(seed, shape, decades=9):
    """Numbers of both signs whose sizes are spread over many decades, of which the largest is 1."""
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(-decades, 0, shape) * rng.choice([-1, 1], shape)
    return (x / np.abs(x).max()).astype("float32")


# --- Eight bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_int8_decodes_to_the_values_of_the_paper_s_table(signed):
    codes, flag = jnp.arange(256, dtype=jnp.uint8), -1.0 if signed else 1.0
    code = encode(NEAREST, jnp.ones(256))._replace(codes=codes, scales=jnp.full(1, flag))
    got = np.asarray(decode(NEAREST, code), np.float64)
    # Within a decade a value is a difference of two numbers up to 8 times as large, rounded twice.
    np.testing.assert_allclose(got, table(signed), rtol=16 * EPS, atol=0)


@pytest.mark.parametrize("signed", [True, False])
def test_int8_rounds_to_the_nearest_value_of_the_table(signed):
    x = draw(0, 4096).astype("float64")
    # Negative entries are smaller than the positive one that is the scale.
    x = np.concatenate([np.where(x < 0, 0.99 * x, x) if signed else np.abs(x), [1.0]])
    x = x.astype("float32")
    values = table(signed)
    got = roundtrip(gradtx.blockwise_int8(len(x), rounding="nearest"), x)
    nearest = np.abs(x[:, None].astype("float64") - values).argmin(1)
    if not signed:
        nearest = np.maximum(nearest, 1)  # a positive entry is never stored as 0
    error, least = np.abs(got - x), np.abs(values[nearest] - x)
    # Between two values it may take the other one if they are equally near, to some roundings.
    np.testing.assert_array_less(error, least + 64 * EPS * np.abs(x) + 1e-12)


@given(st.integers(0, 2**31))
def test_int8_takes_one_of_the_two_values_beside_an_entry(seed):
    x = draw(seed, (3, 512))
    x[1] = np.abs(x[1])  # the blocks of one array have different codes
    blocks = x.reshape(-1, 256).astype("float64")
    code = encode(CODECS[0], x, jnp.uint32(seed))
    got = np.asarray(decode(CODECS[0], code), "float64").reshape(-1, 256)
    for row, out, flag in zip(blocks, got, np.asarray(code.scales).ravel(), strict=True):
        values, scale = table(flag < 0), abs(float(flag))
        assert (flag < 0) == (row.min() < 0)
        upper = np.searchsorted(values, row / scale).clip(1, 255)
        beside = np.stack([values[upper - 1], values[upper]]) * scale
        # The code of the least value is that of the largest absolute value, to some roundings.
        error = np.abs(out - beside).min(0)
        assert np.all(error <= 16 * EPS * np.abs(out))


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("positive", [True, False])
def test_the_mean_of_many_encodings_is_right(codec, positive):
    if codec.__dict__.get("rounding") == "nearest" or isinstance(codec, gradtx.bfloat16_plus_8):
        return  # these round to the nearest value
    x = draw(1, 512, decades=3)
    x = np.abs(x) if positive else x
    count = 2000
    seeds = jax.vmap(lambda i: seed_of(i, 3))(jnp.arange(count))
    out = jax.jit(jax.vmap(lambda s: codec.decode(codec.encode(jnp.asarray(x), s))))(seeds)
    out = np.asarray(out, np.float64)
    # Each entry takes two values, from which the standard deviation of its mean follows. All of 512
    # normal numbers are below 5 standard deviations with a probability of 0.9997.
    gap = out.max(0) - out.min(0)
    up = np.clip((x - out.min(0)) / np.where(gap > 0, gap, 1), 0, 1)
    deviation = gap * np.sqrt(up * (1 - up) / count) + 2.0**-12 * gap
    error = out.mean(0) - x
    assert np.all(np.abs(error) <= 5 * deviation + 32 * EPS * np.abs(x))
    z = error / (deviation + EPS)
    assert abs(z.mean()) < 5 / np.sqrt(512) and gap.max() > 0


def test_random_bits_are_uniform_and_differ_between_steps_arrays_and_positions():
    steps = jax.vmap(lambda i: bits_like(jnp.zeros((64, 64)), seed_of(i, 1)))(jnp.arange(32))
    other = bits_like(jnp.zeros((64, 64)), seed_of(jnp.int32(0), 2))
    u = np.concatenate([np.asarray(steps), np.asarray(other)[None]]).reshape(33, -1) / 2.0**32
    bins = np.histogram(u, 64, (0, 1))[0]
    chi2 = np.sum((bins - u.size / 64) ** 2) / (u.size / 64)
    assert chi2 < 63 + 5 * np.sqrt(2 * 63)
    pairs = [(u[i], u[i + 1]) for i in range(32)] + [(u[:, 1:], u[:, :-1]), (u[:, 64:], u[:, :-64])]
    for a, b in pairs:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(a.size)


def test_a_positive_second_moment_is_never_stored_as_zero():
    x = jnp.array([1.0, 1e-9, 1e-30, 0.0])
    for codec in (NEAREST, gradtx.blockwise_int8()):
        got = roundtrip(codec, x)
        np.testing.assert_allclose(got[1:3], 3.25e-7, rtol=16 * EPS)
        assert got[0] == 1 and got[3] == 0


def test_blocks_have_equal_lengths_and_their_number_is_a_power_of_two():
    assert blocks_of((768, 3072), 256) == (1, 3072, 16)  # 16 shards of 192 entries, and not 12
    assert blocks_of((512, 64), 256) == (0, 2**15, 128)
    assert blocks_of((10, 512, 64), 256) == (1, 2**15, 128)
    assert blocks_of((3,), 256) == (0, 3, 1)


# --- Bfloat16 -------------------------------------------------------------------------------------


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_24_bits_are_off_by_at_most_two_to_the_minus_16(x):
    got = float(roundtrip(gradtx.bfloat16_plus_8(), np.float32(x)))
    if abs(x) > 3.3961e38:
        assert got == np.sign(x) * float(np.float32(3.3961256e38))
    else:
        assert abs(got - x) <= 2.0**-16 * abs(x)
    code = encode(gradtx.bfloat16_plus_8(), np.float32(x))
    # The first part alone is the nearest bfloat16 number, or as near.
    assert abs(float(code.high) - x) <= (2.0**-8 + 2.0**-16) * abs(x)


# --- All codecs -----------------------------------------------------------------------------------

TINY, LARGEST = float(jnp.finfo("float32").tiny), float(jnp.finfo("float32").max)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_finite_arrays_stay_finite_and_zero_stays_zero(codec):
    with jax.debug_nans(True):
        for value in (0.0, 1e-45, 1e-40, TINY, 1e-30, 1.0, 1e30, LARGEST):
            for other in (0.0, 1.0, -1.0, value, -value):
                x = np.array([value, 0.5 * value, other, 0.0], "float32")
                got = np.asarray(decode(codec, encode(codec, x)))
                assert np.all(np.isfinite(got)) and got[3] == 0
                assert np.all(np.abs(got) <= np.abs(x.astype("float64")).max() * (1 + 2.0**-7))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_what_is_not_finite_is_not_hidden(codec):
    for value in (np.nan, np.inf, -np.inf):
        got = roundtrip(codec, np.array([1.0, value, -1.0], "float32"))
        assert not np.isfinite(got[1])


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_encoding_again_gives_the_same_code(codec):
    for x in (draw(3, (8, 1000)), np.abs(draw(4, (8, 1000)))):
        first = encode(codec, x)
        again = encode(codec, decode(codec, first), seed_of(jnp.int32(9), 4))
        for a, b in (
            zip(first, again, strict=True) if isinstance(first, tuple) else [(first, again)]
        ):
            if a.dtype == jnp.float32:  # a scale is computed from its largest entry
                np.testing.assert_allclose(a, b, rtol=2 * EPS)
            else:
                np.testing.assert_array_equal(np.asarray(a, "float32"), np.asarray(b, "float32"))


@pytest.mark.parametrize("codec", [gradtx.bfloat16_plus_8(), gradtx.bfloat16_stochastic()], ids=str)
def test_derivatives_pass_through_bfloat16(codec):
    f = lambda x: jnp.sum(3.0 * codec.decode(codec.encode(x, SEED)))
    np.testing.assert_array_equal(jax.grad(f)(jnp.linspace(-1, 1, 9)), 3.0)


class spoiled(gradtx.Codec):
    """A codec whose author forgot the dtype."""

    def encode(self, x, seed):
        return x.astype(jnp.float16)

    def decode(self, code):
        return code


class forgotten(gradtx.Codec):
    """A codec without methods."""


def test_the_mistakes_of_an_author_are_sentences():
    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    with pytest.raises(
        TypeError, match=r"`decode` of `spoiled` must return .* \(3, 4\) and float32"
    ):
        check_codec(spoiled(), x)
    with pytest.raises(TypeError, match="`forgotten` does not define `encode"):
        check_codec(forgotten(), x)
    with pytest.raises(TypeError, match="`forgotten` does not define `decode"):
        forgotten().decode(x)
    with pytest.raises(
        ValueError, match=r"block_size=1\)` must be a whole number of entries, 2 or more"
    ):
        gradtx.blockwise_int8(1)
    with pytest.raises(ValueError, match="rounding='up'"):
        gradtx.blockwise_int8(rounding="up")
