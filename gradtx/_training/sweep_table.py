"""The table as which the result of a sweep prints."""

from typing import Any

import numpy as np

from gradtx._core.static import show

# A longer table shows the best rows only.
_MOST_ROWS = 32


def table(result: Any) -> str:
    """One row per optimizer in the order of the batch, and sentences about what to do next.

    If there are more than 32 optimizers, the table shows the 32 best ones, from the best to the worst.
    """
    names = list(result.settings[0])
    several = result.scores.shape[1] > 1
    lost = result.diverged.sum(axis=1)
    heads = [*names, "score"] + ["standard error"] * several + ["diverged"] * bool(lost.any())
    many = len(result.txs) > _MOST_ROWS
    shown = result.order[:_MOST_ROWS] if many else range(len(result.txs))
    best = None if result.diverged.all() else result.order[0]

    rows = []
    for i in shown:
        row = [_cell(result.settings[i][name]) for name in names]
        row.append(_number(result.mean[i]))
        row += [_number(result.standard_error[i])] * several
        if lost.any():
            row.append(_share(lost[i], result.scores.shape[1]))
        rows.append((row, "  best" if i == best else ""))

    widths = [
        max(map(len, column)) for column in zip(heads, *(row for row, _ in rows), strict=True)
    ]
    lines = [
        "  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip(),
        "  ".join("-" * width for width in widths),
    ]
    numbers = [all(_is_number(s[name]) for s in result.settings) for name in names]
    right = numbers + [True] * (len(heads) - len(names))
    for row, mark in rows:
        cells = [
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(row, widths, right, strict=True)
        ]
        lines.append(("  ".join(cells) + mark).rstrip())
    return "\n".join(lines + _sentences(result, many))


def _sentences(result: Any, many: bool) -> list[str]:
    said = []
    if many:
        said.append(f"These are the {_MOST_ROWS} best of {len(result.txs)} optimizers.")
    if result.diverged.all():
        said.append("All optimizers diverged. Sweep smaller learning rates.")
    for name, edge in result.edges.items():
        beyond = "smaller" if edge == "lowest" else "larger"
        said.append(
            f"The best `{name}` is the {edge} that was tried: extend the sweep to {beyond} values."
        )
    return said


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _cell(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else x if isinstance(x, str) else show(x)


def _number(x: float) -> str:
    return "" if np.isnan(x) else f"{x:.4g}"


def _share(lost: int, seeds: int) -> str:
    if seeds == 1:
        return "yes" if lost else ""
    return f"{lost} of {seeds}" if lost else ""
