"""The equation that a notebook shows, which is checked by computing with it."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from matplotlib.mathtext import MathTextParser

import gradtx
from gradtx import adam, adamw, by_rank, chain, masked, muon, partition, scale, sgd, summarize

each = pytest.mark.parametrize("row", zoo.ROWS, ids=str)


def lines(tx):
    """The equations of `tx`: a left side for each right side."""
    text = tx._repr_latex_()
    assert text.startswith(r"$$\begin{aligned}u_t &= ") and text.endswith(r"\end{aligned}$$")
    text = text.removeprefix(r"$$\begin{aligned}").removesuffix(r"\end{aligned}$$")
    text = re.sub(r"\\begin{cases}.*?\\end{cases}", lambda m: m[0].replace(r" \\ ", r" \or "), text)
    return dict(line.split(" &= ") for line in text.split(r" \\ "))


@each
def test_every_equation_is_valid(row):
    parser = MathTextParser("path")
    for left, right in lines(row.make()).items():
        for name in ("{}", "()"):
            depth = np.cumsum([(c == name[0]) - (c == name[1]) for c in right])
            assert depth[-1] == 0 and min(depth) >= 0
        assert right.count(r"\left") == right.count(r"\right") and "^t^" not in right
        # Matplotlib knows no cases: their rows one after the other are as good a test.
        flat = (
            re.sub(r"\\(begin|end){cases}", " ", right).replace("&", r"\quad").replace(r"\or", ",")
        )
        parser.parse(f"${left} = {flat}$")


def python(latex):
    """An equation's side as an expression in Python."""
    for pattern, new in [
        (r"_\{t-1\}", "_old"),
        (r"\\(hat|bar)\{([^{}]*)\}", r"\1\2"),
        (r"'", "p"),
        (r"\\left\|", "square("),
        (r"\\right\|\^2", ")"),
        (r"\\(left|right)(?=[()])", ""),
        (r"\\\|(.*?)\\\|", r"norm(\1)"),
        (r"\\,|\\cdot", "*"),
        (r"\\pm ", ""),
        (r"\\operatorname\{(\w*)\}", r"\1"),
        (r"\\(theta|min|max)", r"\1"),
        (r"\\prod_\{s<t\} fading\(s\)", "product(fading)"),
        (r"\\mathrm\{array\}|\\operatorname", "unknown"),
    ]:
        for _ in range(3):
            latex = re.sub(pattern, new, latex)
    while (
        inner := re.sub(
            r"\\frac\{([^{}]*)\}\{([^{}]*)\}|\\sqrt\{([^{}]*)\}|\^\{([^{}]*)\}", innermost, latex
        )
    ) != latex:
        latex = inner
    return latex


def innermost(match):
    above, below, radicand, power = match.groups()
    if power is not None:
        return f"**({power})"
    return f"sqrt({radicand})" if above is None else f"divide({above}, {below})"


def divide(a, b):
    return np.where(b == 0, 0.0, a / np.where(b == 0, 1.0, b))


def computed(tx, gradients, theta):
    """The updates for these gradients by the equation that a notebook shows."""
    equations = {python(left): python(right) for left, right in lines(tx).items()}
    u, old, updates = equations.pop("u_t"), {}, []
    for left, right in equations.items():
        equations[left], _, initial = right.partition(r",\quad ")
        old[left.replace("_t", "_old")] = float(initial.split(" = ")[1]) if initial else 0.0
    known = {
        "sqrt": np.sqrt,
        "square": np.square,
        "divide": divide,
        "sign": np.sign,
        "theta": theta,
    }
    known |= {"min": np.minimum, "max": np.maximum, "norm": np.linalg.norm, "clip": clip}
    known |= {"fading": zoo.fading, "longest": lambda a, b: np.where(abs(a) >= abs(b), a, b)}
    for t, g in enumerate(gradients, 1):
        known |= {"t": t, "g_t": g, "product": lambda f, t=t: math.prod(map(f, range(t)))}
        for left, right in equations.items():
            known[left] = eval(right, known | old)
        updates.append(eval(u, known | old) * np.ones_like(g))
        old = {left.replace("_t", "_old"): known[left] for left in equations}
    return updates


def clip(x, limit):
    return np.clip(x, -limit, limit)


# What the translation above knows, so that all else is an error and not a skip.
KNOWN = {"fading", "longest", "sign", "clip"}


def computable(tx):
    text = tx._repr_latex_()
    names = set(re.findall(r"\\operatorname\{(.*?)\}", text))
    by_shape = r"s_{\mathrm" in text  # a factor that only a leaf's shape gives a number to
    return names <= KNOWN and not by_shape and "cases" not in text and "[" not in text


# An accumulator of few digits is not what its equation says.
COMPUTABLE = [row for row in zoo.ROWS if "bfloat16" not in row.code and computable(row.make())]


@pytest.mark.parametrize("row", COMPUTABLE, ids=str)
def test_the_equation_shown_is_what_is_computed(row):
    rng = np.random.default_rng(0)
    tx, theta = row.make(), rng.normal(size=5)
    gradients = [rng.normal(size=5) for _ in range(4)]
    params = jnp.asarray(theta, jnp.float32)
    state = tx.init(params)
    for g, want in zip(gradients, computed(tx, gradients, theta), strict=True):
        u, state = tx.update(jnp.asarray(g, jnp.float32), state, params)
        np.testing.assert_allclose(u, want, rtol=2e-5, atol=1e-6)


def test_most_of_the_zoo_is_checked_by_computing():
    names = {type(row.make()).__name__ for row in COMPUTABLE}
    assert len(COMPUTABLE) > len(zoo.ROWS) / 2
    assert names >= {"chain", "fanout", "bias_correction", "running_max", "scale_by_momentum"}
    assert names >= {"sgd", "adam", "adamw", "adagrad", "rmsprop", "adadelta"}


def test_adamw_reads_as_in_its_paper():
    assert lines(adamw(0.1)) == {
        "u_t": r"-0.1\, \left(\frac{\hat{m}_t}{\sqrt{\hat{v}_t} + 10^{-8}} + 0.0001\, \theta\right)",
        "m_t": r"0.9\, m_{t-1} + 0.1\, g_t",
        r"\hat{m}_t": r"\frac{m_t}{1 - 0.9^{t}}",
        "v_t": r"0.999\, v_{t-1} + 0.001\, \left|g_t\right|^2",
        r"\hat{v}_t": r"\frac{v_t}{1 - 0.999^{t}}",
    }


def test_a_power_is_put_in_brackets_before_it_is_raised():
    text = lines(gradtx.bias_correction(gradtx.second_moment(1e-5)))
    assert text[r"\hat{v}_t"] == r"\frac{v_t}{1 - \left(10^{-5}\right)^{t}}"


def test_each_group_has_its_row_and_its_letters():
    text = lines(muon(0.02))
    assert text["u_t"].startswith(
        r"\begin{cases}-0.02\, s_{\mathrm{match\_rms}}\, \operatorname{NS}"
    )
    assert r"& \mathrm{muon} \or -0.02\," in text["u_t"] and {"m_t", "m'_t"} <= set(text)
    same = lines(partition({"a": adam(0.1), "b": adam(0.2)}, by_rank(2)))
    assert set(same) == {"u_t", "m_t", "v_t", r"\hat{m}_t", r"\hat{v}_t"}


@pytest.mark.parametrize(
    ("tx", "update"),
    [
        (scale(2.5e-5), r"2.5 \cdot 10^{-5}\, g_t"),
        (scale(-1.0), "-g_t"),
        (scale(float("inf")), r"\infty\, g_t"),
        (scale(np.ones(3)), r"\mathrm{array}\, g_t"),
        (scale(jnp.float32(0.5)), r"0.5\, g_t"),
        (1.0 - scale(-2.0), r"1 + 2\, g_t"),
        (scale(3.0) - (scale(1.0) + 2.0), r"3\, g_t - \left(g_t + 2\right)"),
        (chain(scale(1.0) + 2.0, scale(-0.5), scale(-3.0)), r"3\, 0.5\, \left(g_t + 2\right)"),
        (masked(scale(2.0), lambda path, leaf: True), r"\begin{cases}2\, g_t & \mathrm{mask}"),
        (partition({"a_b{\\'$": sgd(0.1)}, by_rank(2)), r"\begin{cases}-0.1\, g_t & \mathrm{a\_b}"),
        (gradtx.cautious(scale(2.0)), r"\operatorname{cautious}\left(2\, g_t\right)"),
        (sgd(optax.linear_schedule(1.0, 0.0, 9)), r"-\operatorname{schedule}(t-1)\, g_t"),
    ],
    ids=repr,
)
def test_numbers_signs_and_names_in_an_equation(tx, update):
    assert lines(tx)["u_t"].startswith(update)


def test_a_value_without_numbers_has_no_equation():
    assert gradtx.axes(adam(0.1))._repr_latex_() is None
    assert jax.tree.map(lambda _: object(), adam(0.1))._repr_latex_() is None
    seen = []
    jax.jit(lambda tx: seen.append(tx._repr_latex_()))(sgd(0.1))
    assert seen == [None]


def test_the_counter_of_a_schedule_is_state_on_trees_too():
    for tx in (
        gradtx.scale_to_rms(zoo.fading),
        masked(gradtx.scale_to_rms(zoo.fading), by_rank(2)),
    ):
        assert summarize(tx, {"w": jnp.ones((2, 3))}).state_bytes == 4
