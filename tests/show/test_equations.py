"""The equation that a notebook shows is complete, is valid LaTeX, and is what is computed."""

import importlib.util
import json
import math
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from latex_pages import check_latex, divide, lines, page, python, undefined
from shares import share

import gradtx
from gradtx import adam, adamw, by_rank, chain, masked, muon, partition, scale, sgd, summarize

each = pytest.mark.parametrize("row", zoo.ROWS, ids=str)


# --- The page is complete -------------------------------------------------------------------------


@each
def test_every_symbol_is_defined_on_the_page(row):
    assert undefined(row.make()) == set()


def test_a_symbol_without_a_definition_is_found():
    class fake:
        def __init__(self, text):
            self.text = text

        def _repr_latex_(self):
            return r"$$\begin{aligned}" + self.text + r"\end{aligned}$$"

    assert undefined(fake(r"u_t &= \eta\, g_t \\ g_t &\text{: a gradient}")) == {r"\eta"}
    assert undefined(fake(r"u_t &= \hat{m}_t + x'_t \\ x_t &= 1")) == {r"\hat{m}", "x'"}
    assert undefined(fake(r"u_t &= \operatorname{NS}\left(u_t\right)")) == {r"\operatorname{NS}"}
    assert undefined(fake(r"u_t &= \|u_t\|_F + d_{\mathrm{in}}")) == {
        r"\|\cdot\|_F",
        r"d_{\mathrm{in}}",
    }
    assert undefined(fake(r"u_t &= [u_t > 0]")) == {r"[\,\cdot\,]"}


# Shown as a function of the updates: classes of users and of Optax.
@each
def test_every_class_of_the_library_has_an_equation(row):
    own = {name for name in gradtx.__dir__() if isinstance(getattr(gradtx, name), type)}
    functions = re.findall(r"the updates of the class }\\mathrm{(.*?)}", row.make()._repr_latex_())
    assert not own & {name.replace(r"\_", "_") for name in functions}


@each
def test_every_equation_is_valid(row):
    check_latex(row.make())


def test_mathjax_typesets_every_equation():
    """MathJax marks what it does not know in red, and what is not valid as an error."""
    node, package = shutil.which("node"), importlib.util.find_spec("mathjax")
    if node is None or package is None or not package.submodule_search_locations:
        pytest.skip(
            "Node.js and the files of MathJax are needed, which `pip install gradtx[docs]` brings."
        )
    folder = f"{package.submodule_search_locations[0]}/static/mathjax/es5"
    script = """
        const [folder, texts] = JSON.parse(require("fs").readFileSync(0));
        const options = {loader: {load: ["input/tex"], paths: {mathjax: folder}}};
        require(folder + "/node-main.js").init(options).then((MathJax) => {
            const wrong = (text) => /<merror|mathcolor="red"/.test(MathJax.tex2mml(text));
            console.log(JSON.stringify(texts.filter(wrong)));
        });
    """
    texts = [row.make()._repr_latex_().strip("$") for row in zoo.ROWS]
    given = json.dumps([folder, [*texts, r"\unknown", "x^2^3"]])
    done = subprocess.run([node, "-e", script], input=given, capture_output=True, text=True)
    assert json.loads(done.stdout) == [r"\unknown", "x^2^3"], done.stderr


# --- Computing with the page ----------------------------------------------------------------------


FUNCTIONS = {
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "square": np.square,
    "divide": divide,
    "sign": np.sign,
    "min": np.minimum,
    "max": np.maximum,
    "norm": np.linalg.norm,
    "mean": np.mean,
    "rms": lambda x: np.sqrt(np.mean(x**2)),
    "fading": zoo.fading,
    "halved": lambda x, theta: 0.5 * x,
    "longest": lambda a, b: np.where(abs(a) >= abs(b), a, b),
}


def computed(tx, gradients, theta):
    """The updates for these gradients by the equation that a notebook shows."""
    equations = {python(left): python(right) for left, right in lines(tx).items()}
    u, old, updates = equations.pop("u_t"), {"theta_old": theta}, []
    for left, right in equations.items():
        equations[left], _, initial = right.partition(r",quad")
        equations[left] = equations[left].rstrip("\\ ")
        old[left.replace("_t", "_old")] = float(eval(initial.split(" = ")[1])) if initial else 0.0

    def at(name, t):
        """A quantity that depends on the step alone, at step t."""
        known = FUNCTIONS | {"t": t, "at": at}
        text = equations[f"{name}_t"]
        others = {left: at(left[:-2], t) for left in equations if left in text}
        return eval(text, known | others)

    def product(name, last):
        return math.prod(at(name, t) for t in range(1, last + 1))

    for t, g in enumerate(gradients, 1):
        known = FUNCTIONS | {"t": t, "g_t": g, "at": at, "product": product}
        for left, right in equations.items():
            known[left] = eval(right, known | old)
        updates.append(eval(u, known | old) * np.ones_like(g))
        old |= {left.replace("_t", "_old"): known[left] for left in equations}
    return updates


# What the translation above knows, so that all else is an error and not a skip.
WORDS = {
    "g_t",
    r"\theta_{t-1}",
    r"[\,\cdot\,]",
    r"\|\cdot\|",
    r"\|\cdot\|_{\mathrm{n}}",
    r"\|\cdot\|_{\mathrm{leaf}}",
}
KNOWN = {"fading", "longest", "sign", "mean", "rms", "halved"}


def computable(tx):
    text = tx._repr_latex_()
    names = set(re.findall(r"\\operatorname\{(.*?)\}", text))
    # What words define, such as a factor that depends on the shape of a leaf, is not computed.
    words = {left for left, right in page(tx) if right.startswith(r"\text")}
    words = {x for x in words if r"\operatorname" not in x}
    return names <= KNOWN and words <= WORDS and "cases" not in text and r"[\mathrm" not in text


# An accumulator of few digits is not what its equation says.
FEW_DIGITS = ("bfloat16", "stored")
COMPUTABLE = [
    row for row in zoo.ROWS if not any(x in row.code for x in FEW_DIGITS) and computable(row.make())
]


@pytest.mark.parametrize("row", share(COMPUTABLE, "computed", 2), ids=str)
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
    own = [row for row in zoo.ROWS if not any(f"{name}(" in row.code for name in zoo.OWN)]
    assert len(COMPUTABLE) > len(own) / 2
    assert names >= {"chain", "fanout", "bias_correction", "running_max", "scale_by_momentum"}
    assert names >= {"sgd", "adam", "adamw", "adagrad", "rmsprop", "adadelta", "nadam", "cautious"}
    assert names >= {"clip", "clip_by_global_norm", "clip_by_block_rms", "adaptive_grad_clip"}


# --- Single equations -----------------------------------------------------------------------------


def test_adamw_reads_as_in_its_paper():
    assert page(adamw(0.1)) == [
        (
            "u_t",
            r"= -0.1\, \left(\frac{\hat{m}_t}{\sqrt{\hat{v}_t} + 10^{-8}}"
            r" + 0.0001\, \theta_{t-1}\right)",
        ),
        ("m_t", r"= 0.9\, m_{t-1} + 0.1\, g_t"),
        (r"\hat{m}_t", r"= \frac{m_t}{1 - 0.9^{t}}"),
        ("v_t", r"= 0.999\, v_{t-1} + 0.001\, \left|g_t\right|^2"),
        (r"\hat{v}_t", r"= \frac{v_t}{1 - 0.999^{t}}"),
        ("m_0 = v_0", "= 0"),
        ("g_t", r"\text{: the gradient in step }t = 1, 2, \dots"),
        (r"\theta_{t-1}", r"\text{: the parameters before step }t"),
    ]


def test_a_power_is_put_in_brackets_before_it_is_raised():
    text = lines(gradtx.bias_correction(gradtx.second_moment(1e-5)))
    assert text[r"\hat{v}_t"] == r"\frac{v_t}{1 - \left(10^{-5}\right)^{t}}"


def test_each_group_has_its_row_and_its_letters():
    text = lines(muon(0.02))
    assert text["u_t"].startswith(r"\begin{cases}-0.02\, s\, \operatorname{NS}\left(n_t\right)")
    assert r"\text{for leaves labeled }\mathrm{muon}" in text["u_t"]
    assert {"m_t", "m'_t"} <= set(text)
    assert text["s"] == r"0.2\, \sqrt{\max\left(d_{\mathrm{in}}, d_{\mathrm{out}}\right)}"
    same = lines(partition({"a": adam(0.1), "b": adam(0.2)}, by_rank(2)))
    assert set(same) == {"u_t", "m_t", "v_t", r"\hat{m}_t", r"\hat{v}_t"}


def test_a_schedule_is_a_symbol_with_a_definition():
    text = lines(sgd(optax.linear_schedule(1.0, 0.0, 9)))
    assert text["u_t"] == r"-\eta_t\, g_t"
    assert text[r"\eta_t"] == r"\operatorname{schedule}\left(t-1\right)"
    twice = lines(adamw(zoo.fading, weight_decay=zoo.fading))
    assert r"\eta_t" in twice and r"\lambda_t\, \theta_{t-1}" in twice["u_t"]
    assert lines(chain(scale(zoo.fading), scale(lambda t: t)))["u_t"] == r"c'_t\, c_t\, g_t"


def test_a_sweep_shows_its_values():
    rows = dict(page(sgd(jnp.logspace(-4, 0, 16))))
    assert rows["u_t"] == r"= -\eta\, g_t"
    assert rows[r"\eta"] == (
        r"\in \left\{0.0001, 0.000184785, \dots, 1\right\}\quad\text{(16 values)}"
    )
    few = dict(page(sgd(np.array([0.1, 0.2]))))
    assert few[r"\eta"] == r"\in \left\{0.1, 0.2\right\}"
    sweep = adam(0.1, b1=jnp.linspace(0.1, 0.9, 8))
    assert undefined(sweep) == set()
    check_latex(sweep)


@pytest.mark.parametrize(
    ("tx", "update"),
    [
        (scale(2.5e-5), r"2.5 \cdot 10^{-5}\, g_t"),
        (scale(-1.0), "-g_t"),
        (gradtx.constant(float("inf")), r"\infty"),
        (scale(np.ones(3)), r"c\, g_t"),
        (scale(jnp.float32(0.5)), r"0.5\, g_t"),
        (1.0 - scale(-2.0), r"1 + 2\, g_t"),
        (scale(3.0) - (scale(1.0) + 2.0), r"3\, g_t - \left(g_t + 2\right)"),
        (chain(scale(1.0) + 2.0, scale(-0.5), scale(-3.0)), r"3 \cdot 0.5\, \left(g_t + 2\right)"),
        (chain(scale(2.0), gradtx.constant(0.5) * scale(3.0)), r"0.5 \cdot 3 \cdot 2\, g_t"),
        (
            masked(scale(2.0), lambda path, leaf: True),
            r"\begin{cases}2\, g_t \quad \text{if }\mathrm{mask}",
        ),
        (
            gradtx.freeze(by_rank(2)),
            r"\begin{cases}0 \quad \text{if }\mathrm{by\_rank(2)} \or g_t \quad",
        ),
        (
            partition({"a_b{\\'$": sgd(0.1)}, by_rank(2)),
            r"\begin{cases}-0.1\, g_t \quad \text{for leaves labeled }\mathrm{a\_b}",
        ),
        (gradtx.keep_norm(gradtx.scale_by_sign()), r"\frac{\|g_t\|_F}{\|x_t\|_F}\, x_t"),
        (gradtx.qk_clip(), r"\sqrt{\gamma_t}\, \left(\theta_{t-1} + g_t\right) - \theta_{t-1}"),
        (chain(optax.centralize()), r"\operatorname{centralize}\left(g_t\right)"),
    ],
    ids=zoo.named,
)
def test_numbers_signs_and_names_in_an_equation(tx, update):
    assert lines(tx)["u_t"].startswith(update)
    assert undefined(tx) == set()
    check_latex(tx)


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
