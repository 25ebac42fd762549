"""Arrays in fields print with all their digits, are read back bit for bit, and hold numbers only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import gradtx
from gradtx import scale
from gradtx._core.printed import DTYPES

WIDE = {"int64", "uint64", "float64", "complex128"}  # which JAX has only if 64 bits are enabled
NAMES = sorted(DTYPES)


def hard(dtype):
    """Numbers of a dtype that are easily changed by printing."""
    dtype = jnp.dtype(dtype)
    if dtype.kind == "b":
        return np.array([True, False])
    if jnp.issubdtype(dtype, jnp.integer):
        info = jnp.iinfo(dtype)
        return np.array([info.min, info.max, 0, 1], dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = hard(np.empty(0, dtype).real.dtype)
        return (parts[:, None] + np.zeros(1)).astype(dtype).ravel() + np.zeros(1, dtype)
    info = jnp.finfo(dtype)
    numbers = [info.max, info.tiny, info.smallest_subnormal, 0.1, 1 / 3, 1.0, -2.0]
    with np.errstate(all="ignore"):
        return np.array([float(x) for x in numbers] + [0.0, -0.0, np.inf, -np.inf, np.nan], dtype)


def same(x, y):
    """Whether two arrays have the same type, dtype and bits, where all NaNs count as the same."""
    a, b = np.asarray(x), np.asarray(y)
    for z in (a, b):
        if (z != z).any():  # for a complex number, both parts
            assert str(z[z != z]) == str(a[a != a])
    bits = [np.where(z != z, np.zeros((), z.dtype), z).tobytes() for z in (a, b)]
    kinds = (isinstance(x, jax.Array), a.shape, a.dtype) == (
        isinstance(y, jax.Array),
        b.shape,
        b.dtype,
    )
    return kinds and bits[0] == bits[1] and getattr(x, "weak_type", 0) == getattr(y, "weak_type", 0)


class holder(gradtx.Value):
    """A value with an array of any dtype and content; a hyperparameter is real, and not NaN."""

    x: jax.Array


def check(x):
    value = holder(x)
    again = read(repr(value))
    assert again == value and hash(again) == hash(value) and same(again.x, value.x)
    assert gradtx.from_config(gradtx.to_config(value), {"holder": holder}) == value


def read(text):
    return gradtx.parse(text, {"holder": holder})


@pytest.mark.parametrize("dtype", NAMES)
def test_arrays_of_every_dtype_are_read_back(dtype):
    x = hard(dtype)
    check(x)
    check(np.array(x[0]))
    if dtype not in WIDE:
        check(jnp.asarray(x))
        check(jnp.asarray(x[:2]).reshape(2, 1))


def test_signs_and_nans_of_complex_numbers_are_kept():
    parts = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45]
    for dtype in (np.complex64, np.complex128):
        x = np.empty((6, 6), dtype)
        x.real, x.imag = np.meshgrid(parts, parts)
        check(x)
    check(jnp.asarray(x.astype(np.complex64)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_arrays_keep_their_shapes(shape):
    for x in (np.zeros(shape, np.float32), jnp.zeros(shape, jnp.int8)):
        check(x)


def test_weak_types_are_kept():
    for x in (jnp.asarray(0.1), jnp.asarray(3), jnp.full((2, 2), 1.5)):
        assert x.weak_type
        check(x)
    assert scale(jnp.asarray(0.5)) != scale(jnp.float32(0.5))


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_every_float32_is_read_back(bits):
    x = np.array(bits, np.uint32).view(np.float32)
    assert same(read(repr(holder(x))).x, x)


def test_a_number_that_is_rounded_twice_is_read_back():
    # 7.038531e-26 is the shortest decimal of this float32. Read as float64 first, and then rounded, it
    # would give the number's neighbor.
    x = np.array(0x15AE43FD, np.uint32).view(np.float32)
    assert str(x) == "7.038531e-26" and np.float32(float(str(x))) != x
    check(np.array(x))


def test_numbers_keep_their_signs_and_nans_are_equal():
    texts = "scale(-0.0)", "adam(0.1, weight_decay=-0.0)", "holder(nan)", "holder(-inf)"
    for text in texts:
        value = read(text)
        assert repr(value) == text
        assert read(repr(value)) == value and hash(value) == hash(read(text))
        assert gradtx.from_config(gradtx.to_config(value), {"holder": holder}) == value
    assert scale(-0.0) != scale(0.0) and scale(5e-324) == gradtx.parse(repr(scale(5e-324)))


def test_a_number_of_an_8_bit_float_is_a_number():
    small = np.asarray([0.5], jnp.float8_e4m3fn)[0]
    assert scale(small) == scale(0.5) == scale(np.float16(0.5))
    assert scale(np.array(1.5, ">f4").reshape(1)) == scale(np.array([1.5], np.float32))


@pytest.mark.parametrize(
    "x",
    [
        np.array(["a"]),
        np.array(["a" * 100, None], object),
        np.array([b"a"]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, [("a", "i4")]),
        np.zeros(1, np.longdouble) if np.longdouble != np.float64 else np.array(["a"]),
        np.ma.masked_array([1.0], [True]),
        np.str_("a"),
        np.complex64(1),
    ],
    ids=lambda x: type(x).__name__ + str(x.dtype),
)
def test_what_does_not_hold_numbers_is_not_a_hyperparameter(x):
    for make in (scale, lambda x: gradtx.adamw(0.1, b1=x), gradtx.constant_schedule):
        with pytest.raises(TypeError, match=r"must be a number, an array"):
            make(x)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("array([1, 1], dtype='U500000000')", "numeric dtype"),
        ("array(['a'])", "numbers only"),
        ("array('a')", "numbers only"),
        ("array([None])", "numbers only"),
        ("array([sgd(1)])", "numbers only"),
        ("array([[1], [2, 3]])", "same lengths"),
        ("array([1.5], dtype=int32)", "whole numbers only"),
        ("array([300], dtype=int8)", "do not fit"),
        ("array([1e39], dtype=float32)", "do not fit"),
        ("array([complex(1, 1)], dtype=float32)", "do not fit"),
        ("Array([1], dtype=float64)", "jax_enable_x64"),
        ("Array([1], dtype=int8, weak_type=True)", "weak type"),
        ("array([1], shape=(2,))", "`shape`"),
        ("array([], shape=(0, -1))", "`shape`"),
        ("array([], shape=(3,))", "`shape`"),
        ("array([" + "9" * 400 + "])", "too large for an array"),
    ],
)
def test_texts_of_other_arrays_are_refused(text, said):
    with pytest.raises(ValueError, match=said):
        gradtx.parse(f"scale({text})")
