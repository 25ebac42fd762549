"""The equation of a schedule is complete, is valid LaTeX, and is what the schedule computes."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import schedule_zoo
from latex_pages import check_latex, divide, lines, python, undefined

import gradtx
from gradtx._core.latex import Page, Tex

each = pytest.mark.parametrize("code", schedule_zoo.ROWS)
AVERAGES = [
    "mean_weight()",
    "ema_weight(0.9)",
    "ema_weight(0.9, 'ramp')",
    "ema_weight(0.9, 'constant')",
]
AVERAGES += ["polynomial_weight(2.0)", "power_weight(3.0)"]
FUNCTIONS = {"cos": math.cos, "pi": math.pi, "sqrt": math.sqrt, "floor": math.floor}
FUNCTIONS |= {"exp": math.exp, "log": math.log, "min": min}
FUNCTIONS |= {
    "min": min,
    "max": max,
    "divide": lambda a, b: float(divide(np.float64(a), np.float64(b))),
}


class shown:
    """A page that shows a schedule at `n` steps."""

    def __init__(self, schedule, n="t"):
        page = Page()
        value = schedule.tex(Tex(n, 2 if len(n) == 1 else 0), page)
        self.latex = page.text("y_t", value)

    def _repr_latex_(self):
        return self.latex


@pytest.mark.parametrize("code", schedule_zoo.ROWS + AVERAGES)
@pytest.mark.parametrize(("n", "first"), [("t", 0), ("t-1", 1)])
def test_the_equation_of_a_schedule_is_what_it_computes(code, n, first):
    schedule = schedule_zoo.make(code)
    text = lines(shown(schedule, n))
    equations = {python(left): python(right) for left, right in text.items()}
    result = equations.pop("y_t")
    values = np.broadcast_to(schedule(jnp.arange(25)), 25)
    for step, value in enumerate(values):
        known = FUNCTIONS | {"t": step + first}
        for left, right in equations.items():
            known[left] = eval(right, known)
        assert eval(result, known) == pytest.approx(value, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("code", schedule_zoo.ROWS + AVERAGES)
def test_the_equation_of_a_schedule_is_complete_and_valid(code):
    value = shown(schedule_zoo.make(code))
    assert undefined(value) == set()
    check_latex(value)


def test_a_schedule_in_a_field_is_defined_by_its_equation():
    tx = gradtx.sgd(gradtx.warmup_constant_schedule(0.0, 1.0, 10))
    text = lines(tx)
    assert text["u_t"] == r"-\eta_t\, g_t"
    cases = r"\frac{t-1}{10} \quad \text{if }t-1 < 10 \or 1 \quad \text{otherwise}"
    assert text[r"\eta_t"] == rf"\begin{{cases}}{cases}\end{{cases}}"
    assert lines(gradtx.sgd(2.0 * gradtx.linear_schedule(1.0, 0.0, 5)))[r"\eta_t"].startswith(
        r"2\, "
    )


def test_functions_and_sweeps_inside_a_schedule_are_defined():
    mixed = 2.0 * gradtx.join_schedules(
        [lambda step: 1.0, gradtx.linear_schedule(1.0, 0.0, 5)], [5]
    )
    peaks = gradtx.warmup_cosine_decay_schedule(0.0, jnp.logspace(-4, -1, 8), 10, 100)
    lengths = gradtx.cosine_decay_schedule(1.0, jnp.array([10.0, 20.0]), alpha=jnp.ones(2))
    for schedule in (
        mixed,
        peaks,
        lengths,
        gradtx.exponential_decay(1.0, jnp.ones(3), jnp.ones(3)),
    ):
        assert undefined(shown(schedule)) == set()
        check_latex(shown(schedule))
        assert undefined(gradtx.adamw(schedule)) == set()
