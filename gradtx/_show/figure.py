"""Figures of matplotlib that are legible on a narrow screen and leave no global state behind."""

import functools
import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 3.9, 2.4  # inches; at 100 dots per inch a figure is 390 pixels wide
_DPI = 100
_TEXT = 9  # points


@functools.cache
def _figure_class() -> Any:
    """The class of figures, which notebooks display without `matplotlib.pyplot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "`gradtx.plot` needs matplotlib, which is not installed. Install it with "
            '`pip install "gradtx[plot]"` or `pip install matplotlib`.'
        ) from error

    class NotebookFigure(Figure):
        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=2 * _DPI)  # sharp on screens with small pixels
            return file.getvalue(), {"width": round(self.get_figwidth() * _DPI)}

    return NotebookFigure


def panels(
    count: int, xlabel: str, height: float = _HEIGHT, *, share: bool = True
) -> tuple[Any, list[Any]]:
    """A figure with `count` axes one below the other, which may share their horizontal axis."""
    first = height + 0.3
    size = (_WIDTH, first + (count - 1) * height * (0.85 if share else 1.1))
    figure = _figure_class()(figsize=size, dpi=_DPI, layout="constrained")
    all_axes = figure.subplots(count, 1, sharex=share, squeeze=False)[:, 0]
    for axes in all_axes:
        styled(axes)
    all_axes[-1].set_xlabel(xlabel, fontsize=_TEXT)
    return figure, list(all_axes)


def styled(axes: Any) -> None:
    """Set the size of the text, thin grid lines, and no frame at the top and at the right."""
    axes.tick_params(labelsize=_TEXT)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.get_offset_text().set_fontsize(_TEXT)


def title(axes: Any, text: str) -> None:
    """A title at the left above the axes, in lines that are not wider than the figure."""
    axes.set_title("\n".join(textwrap.wrap(text, 46)), fontsize=_TEXT, loc="left")


def legend(axes: Any, names: Sequence[str], *, above: bool = False) -> None:
    """A legend, if there are several lines and not more than fit; inside the axes, or above them."""
    if 1 < len(names) <= 10:
        columns = 1 if max(map(len, names)) > 14 else 2 if len(names) < 7 else 3
        place = {"loc": "lower left", "bbox_to_anchor": (-0.12, 1.0)} if above else {}
        axes.legend(fontsize=_TEXT - 1, frameon=False, ncols=columns, handlelength=1.2, **place)


def spans_decades(values: Any, factor: float = 100.0) -> bool:
    """Whether all numbers are positive, and the largest is `factor` times the smallest or more."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    return bool(x.size and x.min() > 0 and x.max() >= factor * x.min())
