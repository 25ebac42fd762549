"""`plot`: schedules, readings over time, and the results of sweeps as figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optax

from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._show.curve import Curve, curve, horizon, is_schedule, schedules_of
from gradtx._show.figure import legend, panels, spans_decades, title
from gradtx._show.plot_sweep import plot_sweep
from gradtx._show.text import cut
from gradtx._training.sweep_result import SweepResult


def plot(what: Any, *, steps: int | None = None, log: bool | None = None) -> Any:
    """A figure of a schedule, of readings over time, or of the result of a sweep.

    It needs matplotlib, which `pip install "gradtx[plot]"` installs. The figure is 390 pixels wide or
    can be saved in any size. It does not use `matplotlib.pyplot`, so it needs no screen, and nothing
    has to be closed.

    Args:
        what: a schedule or any function of the step; a list of them, or a dictionary that maps names to
            them, which are drawn into one diagram; a transformation, whose schedules are drawn one below
            the other; readings over time, as a dictionary of arrays or a list of the dictionaries that
            `readings` returns; or the result of `sweep`. Of readings, an entry that is called "step" is
            the horizontal axis, and readings of several layers are drawn into one diagram. Of a sweep,
            the score is drawn against one hyperparameter, as a map for two, and in one diagram for each
            hyperparameter if there are more.
        steps: how many steps of a schedule are drawn. None means as many as show its shape.
        log: whether the vertical axis (of a sweep, the score) is logarithmic. None means where the
            values are positive and the largest is 100 times the smallest. Schedules are drawn on a
            linear axis unless `log` is True.

    Returns:
        A `matplotlib.figure.Figure`, which notebooks display, and which `savefig` writes to a file.

    Raises:
        ImportError: if matplotlib is not installed.
        TypeError: if `what` is nothing that can be drawn.
        ValueError: if a transformation has no schedule, if a schedule cannot be evaluated, or if there
            are no readings.

    >>> import gradtx
    >>> figure = gradtx.plot(gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000))
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['step']
    """
    check_arguments(plot, locals())
    match what:
        case SweepResult():
            return plot_sweep(what, log)
        case optax.GradientTransformation():
            return _plot_transform(as_transform(what, "plot(...)"), steps, log)
        case _ if is_schedule(what):
            return _plot_schedules({cut(show(what), 52): what}, steps, log)
        case Mapping() if what and all(map(is_schedule, what.values())):
            return _plot_schedules({str(k): x for k, x in what.items()}, steps, log)
        case list() | tuple() if what and all(map(is_schedule, what)):
            named = {f"{cut(show(x), 44)}": x for x in what}
            if len(named) < len(what):
                named = {f"{i}: {cut(show(x), 40)}": x for i, x in enumerate(what)}
            return _plot_schedules(named, steps, log)
        case Mapping():
            return _plot_readings({str(k): _series(k, x) for k, x in what.items()}, log)
        case list() | tuple() if all(isinstance(x, Mapping) for x in what):
            return _plot_readings(_joined(what), log)
        case _:
            pass
    raise TypeError(
        "`plot` draws schedules, transformations with schedules, readings over time (a dictionary of "
        f"arrays or a list of dictionaries), and the result of `sweep`; it got `{cut(show(what), 60)}`."
    )


# --- Schedules


def _plot_transform(tx: Transform, steps: int | None, log: bool | None) -> Any:
    found = schedules_of(tx)
    if not found:
        raise ValueError(
            f"`plot`: `{cut(repr(tx), 60)}` has no schedule to draw. `summarize` shows its "
            "hyperparameters, which are constant."
        )
    steps = steps or max(map(horizon, found.values())) + 1
    figure, all_axes = panels(len(found), "step")
    for axes, (name, schedule) in zip(all_axes, found.items(), strict=True):
        line = _curve(name, schedule, steps)
        axes.plot(line.steps, line.values)
        title(axes, name)
        if log:
            axes.set_yscale("log")
    return figure


def _plot_schedules(named: dict[str, Any], steps: int | None, log: bool | None) -> Any:
    steps = steps or max(map(horizon, named.values())) + 1
    figure, (axes,) = panels(1, "step")
    for name, schedule in named.items():
        line = _curve(name, schedule, steps)
        axes.plot(line.steps, line.values, label=name)
    if len(named) == 1:
        title(axes, next(iter(named)))
    else:
        legend(axes, list(named), above=True)
    if log:
        axes.set_yscale("log")
    return figure


def _curve(name: str, schedule: Any, steps: int) -> Curve:
    line = curve(schedule, steps)
    if line is None:
        raise ValueError(
            f"`plot`: the schedule `{name}` cannot be drawn. It must take one step, and return one "
            "number; of a sweep, draw one schedule at a time."
        )
    return line


# --- Readings


def _series(name: Any, x: Any) -> np.ndarray:
    """A reading as a float array with one row per line, or a single line."""
    try:
        series = np.asarray(x).astype(np.float64)
    except (TypeError, ValueError):
        series = None
    if series is None or series.ndim > 2:
        raise TypeError(
            f"`plot`: the reading `{name}` must hold one number per step, or one row of numbers per "
            f"run, not `{cut(show(x), 60)}`."
        )
    return series.reshape(1) if series.ndim == 0 else series


def _joined(history: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A list of readings as arrays; a reading that is missing at a step is NaN there."""
    names = dict.fromkeys(str(name) for reading in history for name in reading)
    return {
        name: _series(name, [np.asarray(reading.get(name, np.nan)) for reading in history])
        for name in names
    }


def _plot_readings(readings: dict[str, np.ndarray], log: bool | None) -> Any:
    at = readings.pop("step", None)
    if not readings:
        raise ValueError("`plot`: there are no readings to draw.")
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, series in readings.items():
        # `grads/norm/layers/0`: a tap, a measure, and where it was measured.
        parts = name.split("/")
        group = "/".join(parts[:2]) if len(parts) > 2 else name
        groups.setdefault(group, {})["/".join(parts[2:])] = series
    figure, all_axes = panels(len(groups), "step", 2.0)
    for axes, (group, lines) in zip(all_axes, groups.items(), strict=True):
        for name, series in lines.items():
            x = np.arange(series.shape[-1]) if at is None else at
            marker = "." if series.shape[-1] == 1 else None
            axes.plot(x, series.T, label=name, linewidth=1.2, marker=marker)
        title(axes, group)
        if all(series.ndim == 1 for series in lines.values()):
            legend(axes, list(lines))
        values = np.concatenate([series.reshape(-1) for series in lines.values()])
        if spans_decades(values) if log is None else log:
            axes.set_yscale("log")
    return figure
