"""The result of a sweep as a figure: the score against one, two or more hyperparameters."""

from typing import Any

import numpy as np

from gradtx._show.figure import panels, spans_decades, styled, title
from gradtx._show.text import cut, digits
from gradtx._training.sweep_result import SweepResult

_MOST_COLUMNS = 6  # of a map that has the scores written into its cells


def plot_sweep(result: SweepResult, log: bool | None) -> Any:
    """The figure of a sweep.

    Args:
        result: what `sweep` returned.
        log: whether the axis of the score is logarithmic. None means that it is logarithmic if the
            scores span two decades.
    """
    names = [name for name in result.settings[0] if len(_choices(result, name)) > 1]
    names = names or list(result.settings[0])
    if len(names) == 2 and _is_grid(result, names):
        return _map(result, names[0], names[1], log)
    figure, all_axes = panels(max(len(names), 1), "", 2.2, share=False)
    for axes, name in zip(all_axes, names or [""], strict=True):
        _against(axes, result, name, log)
    return figure


def _choices(result: SweepResult, name: str) -> list[Any]:
    """The values of a hyperparameter, in order if they are numbers."""
    values = list(dict.fromkeys(setting.get(name) for setting in result.settings))
    return sorted(values) if all(map(_is_number, values)) else values


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _text(x: Any) -> str:
    return digits(x) if _is_number(x) else cut(str(x), 24)


def _is_grid(result: SweepResult, names: list[str]) -> bool:
    """Whether every pair of values was tried exactly once."""
    pairs = {tuple(setting[name] for name in names) for setting in result.settings}
    return len(pairs) == len(result.settings) == np.prod([len(_choices(result, n)) for n in names])


def _against(axes: Any, result: SweepResult, name: str, log: bool | None) -> None:
    """The scores against one hyperparameter: a dot per training, and the lowest mean per value."""
    choices = _choices(result, name)
    numeric = all(map(_is_number, choices))
    place = {value: value if numeric else i for i, value in enumerate(choices)}
    at = np.array([place[setting.get(name)] for setting in result.settings], np.float64)
    every = np.repeat(at, result.scores.shape[1])
    scores = result.scores.reshape(-1)
    fine = np.isfinite(scores)
    if len(scores) > len(choices):
        axes.plot(every[fine], scores[fine], ".", color="0.6", markersize=4, label="one training")
    lowest = {
        x: np.nanmin(result.mean[at == x]) for x in at if np.isfinite(result.mean[at == x]).any()
    }
    xs = sorted(lowest)
    axes.plot(xs, [lowest[x] for x in xs], "-o", markersize=4, label="lowest mean")
    if spans_decades(scores[fine]) if log is None else log:
        axes.set_yscale("log")
    if not fine.all():
        lost = np.unique(every[~fine])
        top = axes.get_xaxis_transform()
        axes.plot(lost, np.full_like(lost, 0.97), "x", color="C3", transform=top, label="diverged")
    if not result.diverged.all():
        best = result.order[0]
        axes.plot(at[best], result.mean[best], "*", color="C1", markersize=11, label="best")
    if numeric:
        if spans_decades(choices, 10.0):
            axes.set_xscale("log")
    else:
        axes.set_xticks(range(len(choices)), map(_text, choices), rotation=20, ha="right")
    axes.set_xlabel(name, fontsize=9)
    axes.set_ylabel("score", fontsize=9)
    axes.legend(fontsize=8, frameon=False, handlelength=1.0)


def _map(result: SweepResult, down: str, right: str, log: bool | None) -> Any:
    """The mean score as the color of a cell for every pair of values."""
    from matplotlib.colors import LogNorm, Normalize

    rows, columns = _choices(result, down), _choices(result, right)
    if len(columns) > len(rows) and len(columns) > _MOST_COLUMNS:
        rows, columns, down, right = columns, rows, right, down
    scores = np.full((len(rows), len(columns)), np.nan)
    for setting, mean in zip(result.settings, result.mean, strict=True):
        scores[rows.index(setting[down]), columns.index(setting[right])] = mean
    figure, (axes,) = panels(1, right, max(2.2, 0.3 * len(rows) + 0.8))
    styled(axes)
    axes.grid(False)
    decades = spans_decades(scores) if log is None else log
    finite = scores[np.isfinite(scores)]
    limits = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    norm = (LogNorm if decades else Normalize)(*limits)
    image = axes.imshow(scores, cmap="viridis_r", norm=norm, aspect="auto", origin="lower")
    axes.set_facecolor("0.85")  # of the cells whose trainings diverged
    axes.set_xticks(range(len(columns)), map(_text, columns))
    axes.set_yticks(range(len(rows)), map(_text, rows))
    axes.set_ylabel(down, fontsize=9)
    if len(columns) <= _MOST_COLUMNS:
        for (i, j), score in np.ndenumerate(scores):
            text = digits(float(f"{score:.3g}")) if np.isfinite(score) else "diverged"
            dark = np.isfinite(score) and norm(score) > 0.5
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")
    else:
        figure.colorbar(image, ax=axes).ax.tick_params(labelsize=9)
    if not result.diverged.all():
        best = result.settings[result.order[0]]
        i, j = rows.index(best[down]), columns.index(best[right])
        axes.plot(j - 0.35, i + 0.3, "*", color="C1", markersize=10)
    title(axes, "mean score" + ("" if result.diverged.all() else ", with a star at the best"))
    return figure
