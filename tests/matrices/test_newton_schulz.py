"""Newton-Schulz: singular vectors stay, singular values follow the polynomial, in every form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradtx._matrices.newton_schulz import newton_schulz
from gradtx._matrices.polynomials import PRESETS, compose, resolve_coefficients
from gradtx._matrices.restarts import flops, plan

FORMS = ("standard", "gram")
DENSE = {"symmetric": False}


def run(x, coefficients="polar_express", **options):
    return jitted(coefficients, **options)(x)


@functools.cache
def jitted(coefficients="polar_express", **options):
    return jax.jit(lambda x: newton_schulz(x, coefficients, **options))


def gaussian(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)


def with_spectrum(values, n, seed=0):
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    v = np.linalg.qr(rng.standard_normal((n, len(values))))[0]
    return jnp.asarray((u * values) @ v.T, jnp.float32)


def exact(x, coefficients="polar_express"):
    """The oracle, U p(S / norm(S)) V^H in float64."""
    dtype = np.complex128 if jnp.iscomplexobj(x) else np.float64
    u, s, vh = np.linalg.svd(np.asarray(x, dtype), full_matrices=False)
    return (u * compose(resolve_coefficients(coefficients), s / np.linalg.norm(s))) @ vh


def error(y, reference):
    return np.linalg.norm(np.asarray(y, np.float64) - reference) / np.linalg.norm(reference)


def singular_values(y):
    return np.linalg.svd(np.asarray(y, np.float64), compute_uv=False)


def hard_matrices(m, n):
    rng = np.random.default_rng(1)
    holes = rng.standard_normal((m, n))
    holes[:: m // 8] = 0
    return {
        "gaussian": gaussian(m, n),
        "condition 1e4": with_spectrum(np.geomspace(1, 1e-4, m), n),
        "condition 1e6": with_spectrum(np.geomspace(1, 1e-6, m), n),
        "low rank": with_spectrum(np.r_[np.ones(m // 8), np.zeros(m - m // 8)], n),
        "zero rows": jnp.asarray(holes, jnp.float32),
    }


# What is computed


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PRESETS)
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(name, form):
    x = gaussian(48, 160)
    np.testing.assert_allclose(run(x, name, form=form), exact(x, name), rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    ("coefficients", "m"),
    [("polar_express", 64), ("polar_express", 128), ("polar_express", 256), ("jordan", 128)],
)
def test_the_gram_form_errs_at_most_twice_as_much_as_the_standard_form(coefficients, m):
    for name, x in hard_matrices(m, 4 * m).items():
        reference = exact(x, coefficients)
        standard, gram = (error(run(x, coefficients, form=form), reference) for form in FORMS)
        assert gram <= 2 * standard < 1e-4, (name, gram, standard)


def test_the_default_brings_a_gaussian_matrix_within_15_percent_of_orthogonal():
    values = singular_values(newton_schulz(gaussian(256, 1024)))
    assert values.min() > 0.85 and values.max() < 1.15


def test_the_default_lifts_small_singular_values_1_9_times_as_far_as_jordans():
    x = with_spectrum(np.geomspace(1, 1e-3, 256), 1024)
    ours, jordans = singular_values(newton_schulz(x)), singular_values(run(x, "jordan"))
    assert ours.min() >= 1.9 * jordans.min()


def test_the_schatten_norm_is_the_fourth_and_lifts_small_singular_values_further():
    x = gaussian(128, 128)
    fourth = functools.partial(np.linalg.norm, ord=4)
    for form in FORMS:
        y = run(x, norm="schatten", form=form)
        u, s, vh = np.linalg.svd(np.asarray(x, np.float64))
        reference = (u * compose(resolve_coefficients(), s / fourth(s))) @ vh
        np.testing.assert_allclose(y, reference, rtol=0, atol=3e-5)
    assert singular_values(y).min() > 2 * singular_values(run(x)).min()
    assert singular_values(y).max() < 1.15


# Laws


@pytest.mark.parametrize("form", FORMS)
def test_a_transposed_matrix_gives_bitwise_the_transposed_result(form):
    x = gaussian(48, 160)
    # Not under jit: there the transposition is fused into products, which then sum otherwise.
    np.testing.assert_array_equal(newton_schulz(x.T, form=form), newton_schulz(x, form=form).T)
    batch = gaussian(2, 64, 160)
    np.testing.assert_allclose(
        run(batch.mT, form=form), run(batch, form=form).mT, rtol=0, atol=3e-6
    )


@pytest.mark.parametrize("form", FORMS)
def test_rotating_the_input_rotates_the_result(form):
    x = gaussian(48, 160)
    # In float64, so that what is seen is the rounding of the iteration alone.
    left, right = (np.linalg.qr(np.asarray(gaussian(k, k), np.float64))[0] for k in x.shape)
    rotated = left @ np.asarray(run(x, form=form), np.float64) @ right
    result = run(jnp.asarray(left @ np.asarray(x, np.float64) @ right, jnp.float32), form=form)
    assert np.sqrt(np.mean(np.square(result - rotated))) < 5e-7


@pytest.mark.parametrize("form", FORMS)
def test_the_result_is_odd(form):
    x = gaussian(48, 160)
    np.testing.assert_array_equal(run(-x, form=form), -run(x, form=form))


@pytest.mark.parametrize("norm", ["frobenius", "schatten"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e37])
def test_the_scale_of_the_input_plays_no_part(scale, form, norm):
    x = gaussian(48, 160)
    y = run(x, form=form, norm=norm)
    np.testing.assert_allclose(run(x * scale, form=form, norm=norm), y, rtol=0, atol=5e-6)


@pytest.mark.parametrize("norm", ["frobenius", "schatten"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_zeros_and_zero_rows_stay_exactly_zero(dtype, form, norm):
    options = {"dtype": dtype, "form": form, "norm": norm}
    assert not np.any(run(jnp.zeros((2, 48, 160)), **options))
    y = np.asarray(run(gaussian(48, 160).at[::5].set(0), **options))
    assert not y[::5].any() and np.isfinite(y).all() and y[1::5].any(axis=1).all()


@pytest.mark.parametrize("norm", ["frobenius", "schatten"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_that_is_not_finite_makes_its_matrix_nan_and_no_other(value, form, norm):
    y = run(gaussian(2, 48, 160).at[1, 3, 4].set(value), form=form, norm=norm)
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_rank_one_matrix_keeps_its_direction(form):
    u, v = gaussian(48), gaussian(160)
    y = run(u[:, None] * v[None], "jordan", form=form)
    scale = compose(resolve_coefficients("jordan"), 1.0) / np.linalg.norm(u) / np.linalg.norm(v)
    np.testing.assert_allclose(y, scale * u[:, None] * v[None], rtol=0, atol=2e-5)


def test_repeated_singular_values_stay_repeated():
    # A Gram product sums 160 terms in an order that the processor chooses: up to 160 roundings.
    values = singular_values(run(with_spectrum(np.ones(48), 160)))
    expected = compose(resolve_coefficients(), 48**-0.5)
    np.testing.assert_allclose(values, expected, rtol=160 * np.finfo("float32").eps)


def test_the_derivative_is_that_of_the_polynomial_and_vanishes_along_the_input():
    x, weight, direction = gaussian(48, 160), gaussian(160, 48).T, gaussian(2, 48, 160)[1]
    for form in FORMS:

        def f(x, form=form):
            return jnp.sum(weight * newton_schulz(x, "jordan", form=form))

        slope = jax.jit(jax.grad(f))(x)
        step = 0.02 * direction
        reference = np.sum(weight * (exact(x + step, "jordan") - exact(x - step, "jordan"))) / 2
        np.testing.assert_allclose(jnp.sum(slope * step), reference, rtol=0.01)
        assert abs(jnp.sum(slope * x)) < 1e-3 * jnp.sum(jnp.abs(slope * x))


# Shapes and dtypes


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape",
    [(0, 4), (4, 0), (0, 0), (0, 3, 5), (3, 0, 5), (1, 7), (7, 1), (1, 1), (2, 1, 5), (2, 3, 5, 4)],
)  # fmt: skip
def test_every_shape_of_two_axes_or_more_works(shape, form, symmetric):
    x = gaussian(*shape)
    # Jordan's quintic, because the default is steep at one, where tiny matrices have values.
    y = newton_schulz(x, "jordan", form=form, symmetric=symmetric)
    assert y.shape == shape and y.dtype == x.dtype
    for index in np.ndindex(shape[:-2] if x.size else (0,)):
        np.testing.assert_allclose(y[index], exact(x[index], "jordan"), rtol=0, atol=5e-6)


@pytest.mark.parametrize("lead", [(1,), (3,), (2, 2)])
@pytest.mark.parametrize("batching", ["auto", "map", "batched"])
def test_a_batch_gives_what_its_matrices_give_one_by_one(batching, lead):
    x = gaussian(*lead, 64, 100)
    one_by_one = np.stack([run(matrix) for matrix in x.reshape(-1, 64, 100)]).reshape(x.shape)
    np.testing.assert_allclose(run(x, batching=batching), one_by_one, rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        jax.vmap(jitted(batching=batching))(x), one_by_one, rtol=0, atol=2e-6
    )


def test_a_batch_of_one_is_multiplied_in_two_dimensions():
    program = str(jax.make_jaxpr(newton_schulz)(gaussian(1, 64, 100)))
    assert "dot_general" in program and "f32[1,64,64]" not in program and "scan" not in program
    assert "f32[2,64,64]" in str(jax.make_jaxpr(jitted(batching="batched"))(gaussian(2, 64, 100)))
    assert "scan" in str(jax.make_jaxpr(jitted(batching="map"))(gaussian(2, 64, 100)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_the_result_has_the_dtype_of_the_input_and_float32_accuracy(dtype):
    x = gaussian(48, 160).astype(dtype)
    y = run(x, form="gram")
    assert y.dtype == x.dtype and not y.weak_type
    wide = run(x.astype("complex64" if dtype == "complex64" else "float32"), form="gram")
    np.testing.assert_array_equal(y, wide.astype(dtype))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_complex_matrices_are_moved_to_unitary_ones(form, symmetric):
    x = jax.lax.complex(gaussian(48, 160), gaussian(160, 48).T)
    for matrix in (x, x.T):
        y = run(matrix * 1e30, form=form, symmetric=symmetric)
        np.testing.assert_allclose(y, exact(matrix), rtol=0, atol=5e-6)


@pytest.mark.parametrize("form", FORMS)
def test_float64_stays_float64_and_may_be_asked_for(form):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((48, 160)))
        y = newton_schulz(x, form=form)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, exact(x), rtol=0, atol=1e-13)
        short = x.astype(jnp.float32)
        y = newton_schulz(short, form=form, dtype="float64")
        np.testing.assert_array_equal(y, np.float32(exact(short)))


# Precision, forms and cost


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["polar_express", "jordan", "dion"])
def test_bfloat16_errs_by_percents_and_never_overshoots(name, form):
    bounds = {"gaussian": 0.03, "condition 1e4": 0.2, "condition 1e6": 0.25, "low rank": 0.8}
    matrices = hard_matrices(64, 256)
    heavy_tail = np.exp(2 * np.random.default_rng(1).standard_normal(64))
    matrices["lognormal"] = with_spectrum(heavy_tail, 256)
    for kind, x in matrices.items():
        y, reference = run(x, name, form=form, dtype="bfloat16"), exact(x, name)
        assert error(y, reference) < bounds.get(kind, 0.15), kind
        assert np.linalg.norm(y, 2) < 1.1 * np.linalg.norm(reference, 2), kind


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_low_precision_dtype_rounds_only_after_the_normalization(dtype):
    x = gaussian(48, 160)
    y = run(x, dtype=dtype)
    np.testing.assert_array_equal(run(x * 2.0**-80, dtype=dtype), y)
    np.testing.assert_array_equal(y, y.astype(dtype).astype(jnp.float32))


def test_tall_bfloat16_input_runs_in_bfloat16():
    x = gaussian(3, 160, 48).astype(jnp.bfloat16)
    for form in FORMS:
        y = run(x, form=form, dtype="bfloat16")
        assert error(y[0], exact(x[0])) < 0.05


@pytest.mark.parametrize("restart", [(2,), (3,), ()])
def test_an_unstable_restart_in_bfloat16_is_refused(restart):
    x = gaussian(48, 160)
    with pytest.raises(ValueError, match=r"newton_schulz\(restart=.*leave restart out"):
        newton_schulz(x, form="gram", dtype="bfloat16", restart=restart)
    newton_schulz(x, form="gram", dtype="bfloat16", restart=(1, 3))
    newton_schulz(x, form="standard", dtype="bfloat16", restart=restart)


def test_the_gram_form_restarts_as_rarely_as_rounding_permits():
    def cuts(coefficients, dtype, m=192, **options):
        eps = float(jnp.finfo(dtype).eps)
        segments = plan(m, 4 * m, resolve_coefficients(coefficients), "gram", eps=eps, **options)
        assert sum(segments, ()) == resolve_coefficients(coefficients)
        return [len(segment) for segment in segments]

    assert cuts("polar_express", "float32") == [3, 2]
    assert cuts("polar_express", "float32", m=191) == [2, 2, 1]
    assert cuts("deepseek", "float32") == [3, 3, 3, 1]
    assert cuts("polar_express", "bfloat16") == [1, 2, 2]
    assert cuts("jordan", "bfloat16") == [2, 2, 1]
    assert cuts("polar_express", "float32", restart=()) == [5]


@pytest.mark.parametrize("name", ["polar_express", "cubic"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_flop_formula_counts_the_compiled_program(symmetric, form, name):
    m, n = 96, 320
    compiled = jitted(name, form=form, symmetric=symmetric).lower(gaussian(m, n)).compile()
    segments = plan(m, n, resolve_coefficients(name), form)
    # Elementwise work, and a fusion of it that XLA may repeat, is the rest.
    ratio = compiled.cost_analysis()["flops"] / flops(m, n, segments, symmetric)
    assert 1 < ratio < 1.05


@pytest.mark.parametrize(("aspect", "goal"), [(4, 0.68), (8, 0.55)])
def test_the_automatic_form_saves_flops_on_wide_matrices(aspect, goal):
    def compiled(form):
        lowered = jitted(form=form, symmetric=False).lower(gaussian(192, 192 * aspect))
        return lowered.compile().cost_analysis()["flops"]

    assert compiled("auto") <= goal * compiled("standard")


@pytest.mark.parametrize("aspect", [1, 1.25, 1.5, 1.75, 2, 8])
def test_the_automatic_form_is_the_one_with_fewer_flops(aspect):
    m, n = 64, int(64 * aspect)
    for name in PRESETS:
        costs = {
            form: flops(m, n, plan(m, n, resolve_coefficients(name), form))
            for form in ("auto", *FORMS)
        }
        assert costs["auto"] == min(costs["standard"], costs["gram"])
        # Small matrices are not worth the rounding.
        assert len(plan(63, 63 * 8, resolve_coefficients(name))) == len(resolve_coefficients(name))
        assert aspect != 1 or costs["auto"] == costs["standard"]


@pytest.mark.parametrize("m", [47, 48])
def test_symmetric_products_in_blocks_change_rounding_alone(m):
    x = gaussian(m, 160)
    for form in FORMS:
        blocks, dense = (run(x, form=form, symmetric=symmetric) for symmetric in (True, False))
        np.testing.assert_allclose(blocks, dense, rtol=0, atol=2e-6)
        segments = plan(m, 160, resolve_coefficients(), form)
        assert flops(m, 160, segments, True) < 0.93 * flops(m, 160, segments)


def test_precision_reaches_every_product():
    def precisions(**options):
        eqns = jax.make_jaxpr(lambda x: newton_schulz(x, form="gram", **options))(
            gaussian(48, 160)
        ).eqns
        return {str(e.params["precision"]) for e in eqns if e.primitive.name == "dot_general"}

    assert precisions() == {"None"}
    (highest,) = precisions(precision="highest")
    assert highest.count("HIGHEST") == 2


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"form": "schulz"}, ValueError),
        ({"norm": "spectral"}, ValueError),
        ({"batching": "loop"}, ValueError),
        ({"restart": (3, 3)}, ValueError),
        ({"restart": (5,)}, ValueError),
        ({"dtype": "complex64"}, TypeError),
        ({"dtype": "int32"}, TypeError),
    ],
)
def test_an_error_names_the_argument(options, kind):
    with pytest.raises(kind, match=f"newton_schulz\\({next(iter(options))}="):
        newton_schulz(gaussian(4, 8), **options)


def test_an_input_that_is_no_matrix_of_floats_is_an_error():
    with pytest.raises(ValueError, match=r"newton_schulz\(x\).*\(3,\)"):
        newton_schulz(jnp.ones(3))
    with pytest.raises(TypeError, match=r"newton_schulz\(x\).*int32"):
        newton_schulz(jnp.ones((3, 3), jnp.int32))
