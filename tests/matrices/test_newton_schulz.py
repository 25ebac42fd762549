"""Newton-Schulz: singular vectors stay, singular values follow the polynomial, in every form.

The polynomials and their sources are in `gradtx/_matrices/polynomials.py`; what the iteration does to
singular values is in Higham (2008), Functions of Matrices, section 8.3. Variants of the iteration that
a test compares run in one program, which compiles faster than one program for each.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import mixed_roundings, roundings

from gradtx._matrices.newton_schulz import newton_schulz
from gradtx._matrices.polynomials import PRESETS, compose, resolve_coefficients
from gradtx._matrices.restarts import flops, plan

FORMS = ("standard", "gram")


def run(x, coefficients="polar_express", **options):
    return jitted(coefficients, **options)(x)


@functools.cache
def jitted(coefficients="polar_express", **options):
    return jax.jit(lambda x: newton_schulz(x, coefficients, **options))


def run_all(x, variants):
    """The results of several variants, each a dictionary of options, in one program."""
    return all_jitted(tuple(tuple(options.items()) for options in variants))(x)


@functools.cache
def all_jitted(variants):
    return jax.jit(lambda x: [newton_schulz(x, **dict(options)) for options in variants])


def error_of(y, runs=1):
    """What a result of five steps may be off by in float32, or two results of two runs: fifteen products
    with as many terms as the longer side. Entries count against the largest one, and nothing is
    magnified much where no singular value is small."""
    return mixed_roundings(runs * 15 * max(y.shape[-2:]), "float32") * np.abs(np.asarray(y)).max()


def gaussian(*shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)


def with_spectrum(values, n, seed=0):
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    v = np.linalg.qr(rng.standard_normal((n, len(values))))[0]
    return jnp.asarray((u * values) @ v.T, jnp.float32)


@functools.cache
def svd(data, dtype, shape):
    return np.linalg.svd(np.frombuffer(data, dtype).reshape(shape), full_matrices=False)


def exact(x, coefficients="polar_express", steps=None):
    """What an SVD says: U p(S / norm(S)) V^H in float64."""
    x = np.asarray(x, np.complex128 if jnp.iscomplexobj(x) else np.float64)
    u, s, vh = svd(x.tobytes(), x.dtype, x.shape)
    values = compose(resolve_coefficients(coefficients, steps), s / np.linalg.norm(s))
    return (u * values) @ vh


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


def test_singular_vectors_stay_and_singular_values_follow_the_polynomial():
    x = gaussian(48, 160)
    variants = [{"coefficients": name, "form": form} for name in PRESETS for form in FORMS]
    for options, y in zip(variants, run_all(x, variants), strict=True):
        want = exact(x, options["coefficients"])
        np.testing.assert_allclose(y, want, rtol=0, atol=error_of(want), err_msg=str(options))


@pytest.mark.parametrize(
    ("coefficients", "m"),
    [("polar_express", 64), ("polar_express", 192), ("jordan", 96)],
)
def test_the_gram_form_errs_at_most_twice_as_much_as_the_standard_form(coefficients, m):
    for name, x in hard_matrices(m, 2 * m).items():
        reference = exact(x, coefficients)
        variants = [{"coefficients": coefficients, "form": form} for form in FORMS]
        standard, gram = (error(y, reference) for y in run_all(x, variants))
        assert gram <= 2 * standard < 1e-4, (name, gram, standard)


def test_the_default_brings_a_gaussian_matrix_within_15_percent_of_orthogonal():
    values = singular_values(run(gaussian(256, 1024)))
    assert values.min() > 0.85 and values.max() < 1.15


def test_the_default_lifts_small_singular_values_1_9_times_as_far_as_jordans():
    x = with_spectrum(np.geomspace(1, 1e-3, 128), 256)
    ours, jordans = singular_values(run(x)), singular_values(run(x, "jordan"))
    assert ours.min() >= 1.9 * jordans.min()


def test_the_schatten_norm_is_the_fourth_and_lifts_small_singular_values_further():
    x = gaussian(128, 128)
    fourth = functools.partial(np.linalg.norm, ord=4)
    variants = [{"norm": "schatten", "form": form} for form in FORMS]
    *results, plain = run_all(x, [*variants, {}])
    u, s, vh = np.linalg.svd(np.asarray(x, np.float64))
    reference = (u * compose(resolve_coefficients(), s / fourth(s))) @ vh
    # A square Gaussian matrix has singular values that are small, and that the first step magnifies.
    slope = resolve_coefficients()[0][0]
    for y in results:
        np.testing.assert_allclose(y, reference, rtol=0, atol=slope * error_of(reference))
    assert singular_values(y).min() > 2 * singular_values(plain).min()
    assert singular_values(y).max() < 1.15


# Laws


@pytest.mark.parametrize("form", FORMS)
def test_a_transposed_matrix_gives_bitwise_the_transposed_result(form):
    x = gaussian(48, 160)
    # Not under jit: there the transposition is fused into products, which then sum otherwise. Two steps
    # are enough, for it is done once.
    two = functools.partial(newton_schulz, coefficients="jordan", steps=2, form=form)
    np.testing.assert_array_equal(two(x.T), two(x).T)
    batch = gaussian(2, 64, 160)
    tall, wide = jax.jit(lambda x: (two(x.mT), two(x)))(batch)
    np.testing.assert_allclose(tall, wide.mT, rtol=0, atol=error_of(wide, 2))


@pytest.mark.parametrize("form", FORMS)
def test_rotating_the_input_rotates_the_result(form):
    x = gaussian(48, 160)
    # In float64, so that what is seen is the rounding of the iteration alone.
    left, right = (np.linalg.qr(np.asarray(gaussian(k, k), np.float64))[0] for k in x.shape)
    rotated = left @ np.asarray(run(x, form=form), np.float64) @ right
    result = run(jnp.asarray(left @ np.asarray(x, np.float64) @ right, jnp.float32), form=form)
    rms = np.sqrt(np.mean(np.square(rotated)))
    difference = np.sqrt(np.mean(np.square(result - rotated)))
    # Three standard deviations of two runs of fifteen products with up to 160 terms.
    assert difference < roundings(3 * np.sqrt(2 * 15 * 160), "float32") * rms


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
    np.testing.assert_allclose(run(x * scale, form=form, norm=norm), y, rtol=0, atol=error_of(y, 2))


def test_in_a_stack_zeros_stay_zero_and_what_is_not_finite_makes_its_matrix_nan_and_no_other():
    x = gaussian(48, 160)
    stack = [x, 0 * x, x.at[::5].set(0), *(x.at[3, 4].set(v) for v in (np.nan, np.inf, -np.inf))]
    variants = [
        {"dtype": dtype, "form": form, "norm": norm}
        for dtype in (None, "bfloat16")
        for form in FORMS
        for norm in ("frobenius", "schatten")
    ]
    for options, result in zip(variants, run_all(jnp.stack(stack), variants), strict=True):
        plain, zero, holes, *bad = np.asarray(result)
        assert np.isfinite(plain).all() and not zero.any(), options
        assert not holes[::5].any() and np.isfinite(holes).all(), options
        assert holes[1::5].any(axis=1).all(), options
        assert np.isnan(bad).all(), options


@pytest.mark.parametrize("form", FORMS)
def test_a_rank_one_matrix_keeps_its_direction(form):
    u, v = gaussian(48), gaussian(160)
    y = run(u[:, None] * v[None], "jordan", form=form)
    scale = compose(resolve_coefficients("jordan"), 1.0) / np.linalg.norm(u) / np.linalg.norm(v)
    want = scale * u[:, None] * v[None]
    # What the outer product, the norm and the sums of the first product are off by lies in directions
    # without a singular value, which five steps magnify by their slope at zero.
    error = roundings((4 + np.sqrt(160)) * 3.4445**5, "float32") * np.abs(want).max()
    np.testing.assert_allclose(y, want, rtol=0, atol=error)


def test_repeated_singular_values_stay_repeated():
    # A Gram product sums 160 terms in an order that the processor chooses, once in each of five steps.
    values = singular_values(run(with_spectrum(np.ones(48), 160)))
    expected = compose(resolve_coefficients(), 48**-0.5)
    np.testing.assert_allclose(values, expected, rtol=roundings(2 * 160, "float32"))


def test_the_derivative_is_that_of_the_polynomial_and_vanishes_along_the_input():
    x, weight, direction = gaussian(48, 160), gaussian(160, 48).T, gaussian(2, 48, 160)[1]

    @jax.jit
    def slopes(x):
        def f(x, form):
            return jnp.sum(weight * newton_schulz(x, "jordan", form=form))

        return [jax.grad(f)(x, form) for form in FORMS]

    step = 0.02 * direction
    reference = np.sum(weight * (exact(x + step, "jordan") - exact(x - step, "jordan"))) / 2
    for slope in slopes(x):
        # A difference quotient; its own error is that of a third derivative.
        np.testing.assert_allclose(jnp.sum(slope * step), reference, rtol=0.01)
        along = roundings(15 * 160 * 7, "float32") * jnp.sum(jnp.abs(slope * x))
        assert abs(jnp.sum(slope * x)) < along


# Shapes and dtypes


SHAPES = [
    (0, 4), (4, 0), (0, 0), (0, 3, 5), (3, 0, 5), (1, 7), (7, 1), (1, 1), (2, 1, 5), (2, 3, 5, 4),
]  # fmt: skip


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_shape_of_two_axes_or_more_works(form, symmetric):
    # Jordan's quintic, because the default is steep at one, where tiny matrices have values; three
    # steps of it, which magnify what is off in a small singular value by their slope at zero.
    options = {"coefficients": "jordan", "steps": 3, "form": form, "symmetric": symmetric}
    error = roundings(4 * 3.4445**3, "float32")
    xs = [gaussian(*shape) for shape in SHAPES]
    results = jax.jit(lambda xs: [newton_schulz(x, **options) for x in xs])(xs)
    for x, y in zip(xs, results, strict=True):
        assert y.shape == x.shape and y.dtype == x.dtype
        for index in np.ndindex(x.shape[:-2] if x.size else (0,)):
            want = exact(x[index], "jordan", 3)
            np.testing.assert_allclose(y[index], want, rtol=0, atol=error, err_msg=str(x.shape))


def test_a_batch_gives_what_its_matrices_give_one_by_one():
    # Two steps are enough to see which matrices an iteration takes together.
    two = functools.partial(newton_schulz, coefficients="jordan", steps=2)
    ways = ("auto", "map", "batched")

    @jax.jit
    def results(x):
        matrices = x.reshape(-1, *x.shape[-2:])
        one_by_one = jnp.stack([two(matrix) for matrix in matrices]).reshape(x.shape)
        together = [two(x, batching=way) for way in ways]
        # `vmap` takes away one of the axes, and leaves none, or one.
        return one_by_one, together + [jax.vmap(lambda x, w=w: two(x, batching=w))(x) for w in ways]

    for lead in ((1,), (3,), (2, 2)):
        one_by_one, together = results(gaussian(*lead, 64, 100))
        for y in together:
            np.testing.assert_allclose(y, one_by_one, rtol=0, atol=error_of(one_by_one, 2))


def test_a_batch_of_one_is_multiplied_in_two_dimensions():
    program = str(jax.make_jaxpr(newton_schulz)(gaussian(1, 64, 100)))
    assert "dot_general" in program and "f32[1,64,64]" not in program and "scan" not in program
    assert "f32[2,64,64]" in str(jax.make_jaxpr(jitted(batching="batched"))(gaussian(2, 64, 100)))
    assert "scan" in str(jax.make_jaxpr(jitted(batching="map"))(gaussian(2, 64, 100)))


def test_the_result_has_the_dtype_of_the_input_and_float32_accuracy():
    dtypes = ("float16", "bfloat16", "float32", "complex64")
    xs = [gaussian(48, 160).astype(dtype) for dtype in dtypes]
    results = jax.jit(lambda xs: [newton_schulz(x, form="gram") for x in xs])(xs)
    for x, y in zip(xs, results, strict=True):
        assert y.dtype == x.dtype and not y.weak_type
        wide = "complex64" if x.dtype == "complex64" else "float32"
        want = exact(x.astype(wide))
        # Rounded once to the narrow dtype, after an iteration in float32.
        error = error_of(want) + roundings(1, x.dtype) * np.abs(want)
        assert np.all(np.abs(np.asarray(y, "complex64") - want) <= error), x.dtype


def test_complex_matrices_are_moved_to_unitary_ones():
    x = jax.lax.complex(gaussian(48, 160), gaussian(160, 48).T)
    variants = [
        {"form": form, "symmetric": symmetric} for form in FORMS for symmetric in (False, True)
    ]
    for matrix, some in ((x, variants), (x.T, variants[::3])):
        want = exact(matrix)
        for options, y in zip(some, run_all(matrix * 1e30, some), strict=True):
            # A complex product has four real ones.
            np.testing.assert_allclose(
                y, want, rtol=0, atol=2 * error_of(want), err_msg=str(options)
            )


def test_float64_stays_float64_and_may_be_asked_for():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((48, 160)))
        short = x.astype(jnp.float32)
        for y in run_all(x, [{"form": form} for form in FORMS]):
            assert y.dtype == jnp.float64
            # The Gram form's restarts are as rare as float64 permits, so that it loses some digits.
            error = mixed_roundings(15 * 160) * 4
            np.testing.assert_allclose(y, exact(x), rtol=0, atol=error)
        for y in run_all(short, [{"form": form, "dtype": "float64"} for form in FORMS]):
            assert y.dtype == jnp.float32
            np.testing.assert_allclose(y, exact(short), rtol=roundings(1.01, "float32"), atol=1e-13)


# Precision, forms and cost


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["polar_express", "jordan", "dion"])
def test_bfloat16_errs_by_percents_and_never_overshoots(name, device, monkeypatch):
    # What a GPU computes is computed here by a CPU. It rounds sums before they are multiplied.
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    more = {"cpu": 1, "gpu": 1.5}[device]
    bounds = {"gaussian": 0.03, "condition 1e4": 0.2, "condition 1e6": 0.25, "low rank": 0.8}
    matrices = hard_matrices(64, 256)
    heavy_tail = np.exp(2 * np.random.default_rng(1).standard_normal(64))
    matrices["lognormal"] = with_spectrum(heavy_tail, 256)
    run_both = jax.jit(
        lambda x: [newton_schulz(x, name, form=form, dtype="bfloat16") for form in FORMS]
    )
    for kind, x in matrices.items():
        reference = exact(x, name)
        for y in run_both(x):
            assert error(y, reference) < more * bounds.get(kind, 0.15), kind
            assert np.linalg.norm(y, 2) < 1.1 * np.linalg.norm(reference, 2), kind


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_low_precision_dtype_rounds_only_after_the_normalization(dtype):
    x = gaussian(48, 160)
    y = run(x, dtype=dtype)
    np.testing.assert_array_equal(run(x * 2.0**-80, dtype=dtype), y)
    np.testing.assert_array_equal(y, y.astype(dtype).astype(jnp.float32))


def test_16_bits_on_a_gpu_need_no_pass_over_the_matrix_after_its_products(monkeypatch):
    """Five of the fifteen products of the standard form give a new X. On a GPU they are stored as they
    are, in 16 bits. Elsewhere they leave in 32 bits, for the sum that follows."""
    x = gaussian(2, 64, 256)
    for device, wide in (("cpu", 5), ("gpu", 0)):
        monkeypatch.setattr(jax, "default_backend", lambda device=device: device)
        options = {"form": "standard", "dtype": "bfloat16", "batching": "batched"}
        text = jax.jit(lambda x, options=options: newton_schulz(x, **options)).lower(x).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert len(products) == 15
        assert sum("-> tensor<2x64x256xf32>" in line for line in products) == wide


def test_tall_bfloat16_input_runs_in_bfloat16():
    x = gaussian(3, 160, 48).astype(jnp.bfloat16)
    for y in run_all(x, [{"form": form, "dtype": "bfloat16"} for form in FORMS]):
        assert y.dtype == jnp.bfloat16
        assert error(y[0], exact(x[0])) < 0.05


@pytest.mark.parametrize("restart", [(2,), (3,), ()])
def test_an_unstable_restart_in_bfloat16_is_refused(restart):
    x = gaussian(48, 160)
    with pytest.raises(ValueError, match=r"newton_schulz\(restart=.*leave restart out"):
        newton_schulz(x, form="gram", dtype="bfloat16", restart=restart)
    for form, taken in (("gram", (1, 3)), ("standard", restart)):
        jax.eval_shape(
            lambda x, form=form, taken=taken: newton_schulz(
                x, form=form, dtype="bfloat16", restart=taken
            ),
            x,
        )


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
def test_the_flop_formula_counts_the_program(symmetric, form, name):
    m, n = 96, 320
    lowered = jitted(name, form=form, symmetric=symmetric).lower(gaussian(m, n))
    segments = plan(m, n, resolve_coefficients(name), form)
    # Elementwise work is the rest.
    ratio = lowered.cost_analysis()["flops"] / flops(m, n, segments, symmetric)
    assert 1 < ratio < 1.05


@pytest.mark.parametrize(("aspect", "goal"), [(4, 0.68), (8, 0.55)])
def test_the_automatic_form_saves_flops_on_wide_matrices(aspect, goal):
    def counted(form):
        lowered = jitted(form=form, symmetric=False).lower(gaussian(192, 192 * aspect))
        return lowered.cost_analysis()["flops"]

    assert counted("auto") <= goal * counted("standard")


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


def test_symmetric_products_in_blocks_change_rounding_alone():
    # Two steps are enough to see each kind of product.
    two = functools.partial(newton_schulz, coefficients="jordan", steps=2)

    @jax.jit
    def results(xs):
        return [
            [two(x, form=form, symmetric=symmetric) for symmetric in (True, False)]
            for x in xs
            for form in FORMS
        ]

    for blocks, dense in results([gaussian(47, 160), gaussian(48, 160)]):
        np.testing.assert_allclose(blocks, dense, rtol=0, atol=error_of(dense, 2))
    for m in (47, 48):
        for form in FORMS:
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


def test_an_input_that_is_not_a_matrix_of_floats_is_an_error():
    with pytest.raises(ValueError, match=r"newton_schulz\(x\).*\(3,\)"):
        newton_schulz(jnp.ones(3))
    with pytest.raises(TypeError, match=r"newton_schulz\(x\).*int32"):
        newton_schulz(jnp.ones((3, 3), jnp.int32))
