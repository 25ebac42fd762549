"""Coefficients: computed ones equal what was published, and maps of singular values keep to bounds."""

import numpy as np
import pytest

from gradtx._matrices.polar_express import polar_express
from gradtx._matrices.polynomials import PRESETS, compose, resolve_coefficients

# Amsel et al. (2025), arXiv:2505.16932, as their code prints it: lower 1e-3, ten steps.
OFFICIAL = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
    (1.875, -1.25, 0.375),
    (1.875, -1.25, 0.375),
]
# The same method with a cushion and a safety of 0.02, as modded-nanogpt and Dion print it.
SPEEDRUN = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755656, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]
# Grishina et al. (2025), arXiv:2506.10935, as NVIDIA's Emerging-Optimizers prints it.
CANS = [
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074),
    (2.2737, -1.6447, 0.4162),
]
UNIT = np.linspace(0.0, 1.0, 20_001)


def test_polar_express_reproduces_the_official_triples():
    np.testing.assert_allclose(polar_express(10, safety=0.0), OFFICIAL, rtol=0, atol=1e-10)


def test_the_speedrun_preset_reproduces_the_published_five():
    np.testing.assert_allclose(resolve_coefficients("speedrun"), SPEEDRUN, rtol=0, atol=1e-10)


def test_the_cans_preset_rounds_to_the_published_four_decimals():
    np.testing.assert_array_equal(np.round(resolve_coefficients("cans"), 4), CANS)


@pytest.mark.parametrize("lower", [1e-3, 0.1, 0.9, 0.99])
def test_one_step_equioscillates_at_four_points(lower):
    (step,) = polar_express(1, lower=lower, cushion=0.0)
    x = np.linspace(lower, 1.0, 200_001)
    deviation = compose((step,), x) - 1
    bound = np.abs(deviation).max()
    extremes = deviation[np.abs(deviation) >= bound * (1 - 1e-4)]
    signs = np.sign(extremes)
    assert signs[np.r_[True, np.diff(signs) != 0]].tolist() == [-1, 1, -1, 1]


@pytest.mark.parametrize(("steps", "lower", "ripple"), [(5, 1e-3, 0.113449), (6, 1e-3, 9.2e-4)])
def test_the_composition_stays_within_its_ripple_from_lower_to_one(steps, lower, ripple):
    values = compose(
        polar_express(steps, lower, cushion=0.0, safety=0.0), np.linspace(lower, 1, 10**5)
    )
    assert ripple * 0.98 < np.abs(values - 1).max() < ripple * 1.02


@pytest.mark.parametrize("lower", [1e-9, 1e-3, 0.5, 0.9998, 1.0])
@pytest.mark.parametrize("cushion", [0.0, 0.024, 0.5])
@pytest.mark.parametrize("steps", [1, 20])
def test_every_interval_has_a_bounded_solution(lower, cushion, steps):
    values = compose(polar_express(steps, lower, cushion), np.linspace(lower, 1.0, 1001))
    assert values.min() > 0 and values.max() <= 2


def test_safety_bounds_what_rounding_pushed_over_one():
    assert compose(polar_express(5), 1.008) < 1.14 < 1.5 < compose(OFFICIAL[:5], 1.008)


def test_the_modula_set_never_exceeds_one():
    assert 0.999 < compose(resolve_coefficients("modula"), UNIT).max() < 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_hashable_odd_positive_and_bounded(name):
    coefficients = resolve_coefficients(name)
    assert hash(coefficients) == hash(resolve_coefficients(name))
    assert coefficients == resolve_coefficients([list(triple) for triple in coefficients])
    assert all(type(number) is float for triple in coefficients for number in triple)
    values = compose(coefficients, UNIT)
    np.testing.assert_array_equal(compose(coefficients, -UNIT), -values)
    assert values[0] == 0 and values[1:].min() > 0 and values.max() < 1.301
    assert PRESETS[name].source


@pytest.mark.parametrize(
    ("name", "slope", "least", "largest"),
    [
        ("jordan", 485, 0.683, 1.134),
        ("dion", 493, 0.978, 1.032),
        ("modula", 1137, 0.9956, 0.9993),
        ("cubic", 119, 0.774, 1.300),
        ("deepseek", 79263, 1.000, 1.0005),
        ("classical", 23, 0.661, 0.993),
        ("cans", 1049, 0.887, 1.113),
        ("speedrun", 989, 0.859, 1.141),
    ],
)
def test_a_preset_has_its_slope_at_zero_and_its_range_on_gaussian_spectra(
    name, slope, least, largest
):
    coefficients = resolve_coefficients(name)
    assert np.prod([a for a, _, _ in coefficients]) == pytest.approx(slope, abs=0.6)
    # Where the singular values of a 256 x 1024 Gaussian matrix of unit norm lie.
    values = compose(coefficients, np.linspace(0.033, 0.093, 5001))
    assert (values.min(), values.max()) == pytest.approx((least, largest), abs=1e-3)


def test_one_triple_repeats_and_a_generator_takes_any_number_of_steps():
    assert resolve_coefficients("jordan", 3) == ((3.4445, -4.775, 2.0315),) * 3
    assert resolve_coefficients((2, -1.5, 0.5)) == ((2.0, -1.5, 0.5),) * 5
    assert resolve_coefficients(np.array([2, -1.5, 0.5]), 2) == ((2.0, -1.5, 0.5),) * 2
    assert resolve_coefficients("polar_express", 7) == polar_express(7)
    assert resolve_coefficients("dion", 5) == resolve_coefficients("dion")


@pytest.mark.parametrize(
    ("coefficients", "steps", "words"),
    [
        ("jorden", None, r"coefficients='jorden'.*polar_express.*jordan"),
        ("dion", 4, r"steps=4.*coefficients='dion'.*5 steps"),
        ([(1, 2, 3), (1, 2, 3)], 3, r"steps=3.*2 steps"),
        ((1, 2), None, r"coefficients=\(1, 2\).*polar_express"),
        ((), None, r"coefficients=\(\)"),
        ((1, 2, np.inf), None, r"coefficients=.*inf"),
        ("jordan", 0, r"steps=0"),
        ("polar_express", -1, r"steps=-1"),
    ],
)
def test_wrong_coefficients_are_an_error_that_names_the_argument(coefficients, steps, words):
    with pytest.raises(ValueError, match=words):
        resolve_coefficients(coefficients, steps)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"lower": 0.0}, {"lower": 1.5}, {"cushion": 1.0}, {"safety": -0.1}]
)
def test_polar_express_names_an_argument_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"polar_express\\({next(iter(wrong))}="):
        polar_express(**wrong)


def test_a_table_of_one_row_is_one_step():
    first = polar_express(5)[:1]
    assert resolve_coefficients(first) == first == resolve_coefficients(np.array(first), steps=1)
    with pytest.raises(ValueError, match="a table of 1 steps"):
        resolve_coefficients(first, steps=5)
