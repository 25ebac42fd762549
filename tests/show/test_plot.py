"""Figures: what they show, that they are legible, and that they leave no global state."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import gradtx
from gradtx import adamw, chain, grid, linear_schedule, muon, plot, sgd, sweep

SCHEDULE = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)


def lines(axes):
    """The points of all curves in a diagram."""
    return [line.get_xydata() for line in axes.get_lines()]


def texts(figure):
    return [x.get_text() for x in figure.findobj(matplotlib.text.Text) if x.get_text().strip()]


def check_legible(figure, tmp_path):
    """Assert that a figure of 390 pixels has text of at least 8 points, and none of it is cut off."""
    assert figure.get_figwidth() * figure.dpi == pytest.approx(390)
    figure.savefig(tmp_path / "figure.png")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())  # of all that is drawn, in inches
    assert box.x0 >= -0.01 and box.x1 <= figure.get_figwidth() + 0.01
    assert box.y0 >= -0.01 and box.y1 <= figure.get_figheight() + 0.01
    assert all(x.get_fontsize() >= 8 for x in figure.findobj(matplotlib.text.Text) if x.get_text())


# --- Schedules ------------------------------------------------------------------------------------


def test_a_schedule_is_drawn_at_its_values(tmp_path):
    figure = plot(SCHEDULE)
    (axes,) = figure.axes
    ((points),) = lines(axes)
    assert points[0].tolist() == [0, 0] and points[-1, 0] == 110  # a tenth more than its length
    for step, value in points[::50]:
        assert value == pytest.approx(float(SCHEDULE(int(step))), abs=1e-6)
    assert "".join(texts(figure)).count("warmup_cosine_decay_schedule") == 1
    check_legible(figure, tmp_path)
    ((points),) = lines(plot(SCHEDULE, steps=20).axes[0])
    assert points[-1, 0] == 19 and len(points) == 20
    assert plot(2 * SCHEDULE + 0.5, log=True).axes[0].get_yscale() == "log"


def test_several_schedules_share_a_diagram(tmp_path):
    names = ("a", "b", "c")
    several = [SCHEDULE, optax.linear_schedule(1.0, 0.0, 50), lambda step: 0.5]
    for given in (several, tuple(several), dict(zip(names, several, strict=True))):
        figure = plot(given)
        assert len(figure.axes) == 1 and len(lines(figure.axes[0])) == 3
        check_legible(figure, tmp_path)
    assert set(names) <= set(texts(figure))
    twice = plot([optax.linear_schedule(1.0, 0.0, 50), optax.linear_schedule(0.0, 1.0, 50)])
    assert len(lines(twice.axes[0])) == 2


def test_a_transformation_shows_its_schedules(tmp_path):
    tx = adamw(SCHEDULE, weight_decay=linear_schedule(0.1, 0.0, 50))
    figure = plot(chain(gradtx.clip(1.0), tx))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["learning_rate", "weight_decay"]
    assert lines(figure.axes[1])[0][-1].tolist() == [110, 0]  # they share the steps
    check_legible(figure, tmp_path)
    # The same schedule in several places is drawn once, and different ones under their owners.
    assert len(plot(muon(SCHEDULE, auxiliary=adamw(SCHEDULE))).axes) == 1
    two = plot(muon(SCHEDULE, auxiliary=adamw(2 * SCHEDULE)))
    titles = {axes.get_title(loc="left") for axes in two.axes}
    assert titles == {"muon.learning_rate", "adamw.learning_rate"}
    with pytest.raises(ValueError, match=r"adamw\(0.1\)` has no schedule"):
        plot(adamw(0.1))
    with pytest.raises(ValueError, match="no schedule"):
        plot(optax.sgd(0.1))
    with pytest.raises(ValueError, match="cannot be drawn"):
        plot(lambda a, b: 1.0)


# --- Readings -------------------------------------------------------------------------------------

HISTORY = {
    "loss": np.logspace(0, -4, 50),
    "learning_rate": np.linspace(1, 0, 50),
    **{f"grads/norm/layers/{i}": np.full(50, i + 1.0) for i in range(3)},
}


def test_readings_are_drawn_one_below_the_other(tmp_path):
    figure = plot(HISTORY)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["loss", "learning_rate", "grads/norm"]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]
    assert len(lines(figure.axes[2])) == 3 and {"layers/0", "layers/2"} <= set(texts(figure))
    check_legible(figure, tmp_path)
    assert plot(HISTORY, log=False).axes[0].get_yscale() == "linear"


def test_a_list_of_readings_and_a_dictionary_of_arrays_are_the_same_figure():
    rows = [{name: x[i] for name, x in HISTORY.items()} for i in range(50)]
    for a, b in zip(plot(rows).axes, plot(HISTORY).axes, strict=True):
        np.testing.assert_array_equal(lines(a), lines(b))
    late = [{"loss": 1.0}, {"loss": 0.5, "skipped": jnp.int32(1)}]
    figure = plot(late)
    np.testing.assert_array_equal(lines(figure.axes[1])[0][:, 1], [np.nan, 1.0])
    at = plot({"step": np.arange(0, 100, 2), "loss": HISTORY["loss"]})
    assert lines(at.axes[0])[0][-1, 0] == 98 and len(at.axes) == 1


def test_readings_of_a_training_are_drawn():
    tx = chain(gradtx.tap("grads"), sgd(SCHEDULE))

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(2 * w, state, w)
        return (gradtx.apply_updates(w, updates), state), gradtx.readings(state)

    w = jnp.ones(3)
    _, history = jax.lax.scan(step, (w, tx.init(w)), length=8)
    figure = plot(history)
    titles = {axes.get_title(loc="left") for axes in figure.axes}
    assert titles == {"grads/global_norm", "learning_rate"}
    runs = plot({"loss": np.ones((4, 10))})
    assert len(lines(runs.axes[0])) == 4


# --- Sweeps ---------------------------------------------------------------------------------------


def train(tx, key=None):
    w = jnp.ones(())
    state = tx.init(w)
    noise = 0.0 if key is None else 0.01 * jax.random.normal(key)
    for _ in range(3):
        u, state = tx.update(2 * w, state, w)
        w = gradtx.apply_updates(w, u)
    return w**2 + noise**2


RATES = [0.01, 0.1, 0.5, 1e30]


def test_one_hyperparameter_is_drawn_against_the_score(tmp_path):
    result = sweep(train, grid(sgd, learning_rate=RATES), seeds=2, progress=False)
    (axes,) = (figure := plot(result)).axes
    assert axes.get_xlabel() == "learning_rate" and axes.get_xscale() == "log"
    named = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    np.testing.assert_allclose(named["lowest mean"][:, 1], result.mean[:3])
    assert len(named["one training"]) == 6 and named["diverged"][0, 0] == np.float64(1e30)
    assert named["best"][0, 0] == 0.5
    check_legible(figure, tmp_path)


def test_two_hyperparameters_are_a_map(tmp_path):
    result = sweep(train, grid(sgd, learning_rate=RATES, momentum=[0.0, 0.9]), progress=False)
    (axes,) = (figure := plot(result)).axes
    (image,) = axes.get_images()
    want = result.mean.reshape(4, 2)
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), want)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("learning_rate", "momentum")
    assert "diverged" in texts(figure)
    check_legible(figure, tmp_path)


def test_more_hyperparameters_and_words_have_a_diagram_each(tmp_path):
    choices = grid(sgd, learning_rate=RATES, momentum=[0.5, 0.9], nesterov=[True, False])
    figure = plot(sweep(train, choices, progress=False))
    assert [axes.get_xlabel() for axes in figure.axes] == ["learning_rate", "momentum", "nesterov"]
    assert {"True", "False"} <= set(texts(figure))
    check_legible(figure, tmp_path)
    lost = sweep(train, grid(sgd, learning_rate=[1e30, 1e31]), progress=False)
    assert "diverged" in texts(plot(lost))


# --- What is not drawn ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", [3, "a", None, [1, 2], [SCHEDULE, 3], {"a": "b"}, {"a": np.ones((2, 2, 2))}]
)
def test_what_cannot_be_drawn_is_an_error(what):
    with pytest.raises(TypeError, match="`plot`"):
        plot(what)


@pytest.mark.parametrize("what", [{}, [], [{}]])
def test_nothing_cannot_be_drawn_either(what):
    with pytest.raises(ValueError, match="no readings"):
        plot(what)


def test_a_figure_needs_no_screen_and_no_pyplot_and_the_error_without_matplotlib_names_the_extra():
    code = """
        import sys
        import gradtx
        assert not any(name.startswith("matplotlib") for name in sys.modules)
        schedule = gradtx.linear_schedule(1.0, 0.0, 10)
        sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
        try:
            gradtx.plot(schedule)
        except ImportError as error:
            assert 'pip install "gradtx[plot]"' in str(error)
        del sys.modules["matplotlib"], sys.modules["matplotlib.figure"]
        png, size = gradtx.plot(schedule)._repr_png_()
        assert png.startswith(b"\\x89PNG") and size == {"width": 390}
        print("matplotlib.pyplot" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# --- Schedules in a notebook ----------------------------------------------------------------------


def test_a_schedule_draws_itself_in_a_notebook():
    html = SCHEDULE._repr_html_()
    assert html.startswith("<code>warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)</code>")
    points = html.split('points="')[1].split('"')[0].split()
    xy = np.array([p.split(",") for p in points], float)
    assert len(html) < 5000 and (np.diff(xy[:, 0]) > 0).all()
    heights = (92 - xy[:, 1]) / 84
    steps = (xy[:, 0] - 62) / 318 * 110
    want = [float(SCHEDULE(round(step))) for step in steps]
    np.testing.assert_allclose(heights, want, atol=0.01)
    sweeping = gradtx.linear_schedule(jnp.ones(3), 0.0, 10)
    assert "<svg" not in sweeping._repr_html_() and "[1, 1, 1]" in sweeping._repr_html_()
    assert "&lt;lambda&gt;" in (2 * SCHEDULE + (lambda step: 1.0))._repr_html_()
