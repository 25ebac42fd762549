"""The orthogonalization of one matrix: operations, speed, and accuracy."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks.measure import interleaved, median_interval
from benchmarks.programs import build
from benchmarks.registry import Number, at_least, at_most, benchmark
from benchmarks.suite.compilation import SAME

ASPECTS = 4, 8


def parts(aspect: int) -> float:
    """The share of operations that the Gram form does for m x km matrices, counted by hand.

    In products of m x m matrices, five standard steps take 5 (2k + 1), where k is the aspect. The Gram
    form with one restart takes k for each of two Gram matrices, k for each of two applications, and 14
    between them.
    """
    return (4 * aspect + 14) / (5 * (2 * aspect + 1))


@benchmark(
    group="muon",
    against="the standard form",
    goal={f"512 x {512 * k}": at_most(parts(k) + 0.001) for k in ASPECTS},
    because="""A count: with k as the aspect and one restart, the Gram form takes 4k + 14 products
    of m x m matrices instead of 5 (2k + 1).""",
)
def gram_operations(quick: bool) -> Iterator[Number]:
    """Floating-point operations of newton_schulz with dense products"""
    for aspect in ASPECTS:
        x = jax.ShapeDtypeStruct((512, 512 * aspect), jnp.float32)
        gram, standard = (
            build(lambda x, form=form: gradtx.newton_schulz(x, form=form, symmetric=False), x).flops
            for form in ("auto", "standard")
        )
        yield Number(f"512 x {512 * aspect}", gram / standard, "ratio")


@benchmark(
    group="muon",
    against="a product of 2048 x 2048",
    goal=at_least(0.85),
    because="""A choice: the norm and the sums of products, which are not products, may take 15% of
    the time.""",
)
def newton_schulz_speed(quick: bool) -> Iterator[Number]:
    """Operations per second of the standard form, as a share of the product's"""
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    matmul = jax.jit(lambda x: x @ x)
    for shape in ((256, 1024), (512, 512), (512, 2048), (1024, 1024)):
        x = jax.random.normal(jax.random.key(1), shape)
        program = build(
            lambda x: gradtx.newton_schulz(x, form="standard", symmetric=False, **SAME), x
        )
        repeat = max(1, int(2e10 // program.flops))
        times = interleaved(
            5 if quick else 15,
            lambda program=program, x=x, n=repeat: [program.run(x) for _ in range(n)],
            lambda: matmul(square),
        )
        rates = np.array([[repeat * program.flops], [2 * 2048**3]]) / times
        value, low, high = median_interval(rates[0] / rates[1])
        details: Any = {"product": (float(np.median(rates[1])), "FLOP/s")}
        yield Number(f"{shape[0]} x {shape[1]}", value, "ratio", low, high, details)


def hard_matrices() -> Iterator[np.ndarray]:
    """Matrices that are hard in different ways, five kinds in four shapes."""
    rng = np.random.default_rng(0)
    for m, n in ((64, 256), (128, 512), (256, 256), (256, 1024)):
        left = np.linalg.qr(rng.normal(size=(m, m)))[0]
        right = np.linalg.qr(rng.normal(size=(n, m)))[0].T
        gauss = rng.normal(size=(m, n))
        with_zero_rows = gauss.copy()
        with_zero_rows[:: m // 16] = 0
        yield gauss
        yield (left * np.logspace(0, -4, m)) @ right
        yield (left * np.logspace(0, -6, m)) @ right
        yield rng.normal(size=(m, m // 8)) @ rng.normal(size=(m // 8, n))
        yield with_zero_rows


@benchmark(
    group="muon",
    against="the standard form",
    goal=at_most(2),
    because="One bit: the form with fewer operations may lose at most one bit more.",
)
def gram_error(quick: bool) -> Iterator[Number]:
    """Error of newton_schulz in float32, measured against float64"""
    errors: dict[str, list[float]] = {"auto": [], "standard": []}
    for matrix in hard_matrices():
        x = matrix.astype(np.float32)
        with jax.enable_x64(True):
            exact = np.asarray(gradtx.newton_schulz(jnp.asarray(x, "float64"), form="standard"))
        for form, each in errors.items():
            y = np.asarray(gradtx.newton_schulz(jnp.asarray(x), form=form), np.float64)
            each.append(float(np.linalg.norm(y - exact) / np.linalg.norm(exact)))
    worst = max(np.divide(errors["auto"], errors["standard"]))
    largest: Any = {form: (max(each), "") for form, each in errors.items()}
    yield Number("worst of 20 matrices", float(worst), "ratio", details=largest)


def singular_values(x: np.ndarray, **options: Any) -> np.ndarray:
    """The singular values of the orthogonalized matrix."""
    y = gradtx.newton_schulz(jnp.asarray(x, jnp.float32), **options)
    return np.linalg.svd(np.asarray(y, np.float64), compute_uv=False)


@benchmark(
    group="muon",
    against="exact orthogonalization",
    goal={"least, Gaussian": at_least(0.85), "largest, Gaussian": at_most(1.15)},
    because="""Jordan's quintic was tuned to end within 0.3 of one (Jordan et al., 2024); the
    default halves that.""",
)
def singular_values_of_a_gaussian(quick: bool) -> Iterator[Number]:
    """Singular values of newton_schulz at 256 x 1024"""
    values = singular_values(np.random.default_rng(1).normal(size=(256, 1024)))
    yield Number("least, Gaussian", float(values.min()), "")
    yield Number("largest, Gaussian", float(values.max()), "")


@benchmark(
    group="muon",
    against="Jordan's quintic",
    goal=at_least(1.9),
    because="""A count: a small singular value is multiplied by the product of the slopes at zero,
    which is 2.1 times as large for five steps of Polar Express. 0.2 is left for the curvature of
    the polynomials.""",
)
def small_singular_values(quick: bool) -> Iterator[Number]:
    """Least singular value of newton_schulz for a spectrum from 1 to 0.001"""
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.normal(size=(n, 256)))[0] for n in (256, 1024))
    decaying = (left * np.logspace(0, -3, 256)) @ right.T
    least, other = singular_values(decaying).min(), singular_values(decaying, **SAME).min()
    details: Any = {"gradtx": (float(least), ""), "Jordan": (float(other), "")}
    yield Number("256 x 1024", float(least / other), "ratio", details=details)
