"""Schedules as small curves, which notebooks display: SVG that needs no library."""

import html

from gradtx._schedules.schedule import Schedule
from gradtx._show.curve import curve
from gradtx._show.text import brief

_LEFT, _RIGHT, _TOP, _BOTTOM = (
    62,
    380,
    8,
    92,
)  # the corners of the diagram in a picture of 390 x 112


def drawn(schedule: Schedule) -> str:
    """The code of a schedule, with its curve below it if it can be evaluated."""
    code = f"<code>{html.escape(brief(schedule))}</code>"
    line = curve(schedule, points=160)
    if line is None or not (abs(line.values) < float("inf")).all():
        return code
    low, high, last = line.values.min(), line.values.max(), max(line.steps[-1], 1)
    across = _LEFT + (_RIGHT - _LEFT) * line.steps / last
    down = _BOTTOM - (_BOTTOM - _TOP) * (line.values - low) / (high - low or 1.0)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    labels = [
        _label(_LEFT - 6, _BOTTOM + 4, "end", f"{low:.4g}"),
        _label(_LEFT, _BOTTOM + 18, "start", "0"),
        _label(_RIGHT, _BOTTOM + 18, "end", f"step {last}"),
    ]
    if high > low:
        labels.append(_label(_LEFT - 6, _TOP + 6, "end", f"{high:.4g}"))
    frame = f"M{_LEFT},{_TOP}V{_BOTTOM}H{_RIGHT}"
    return (
        f'{code}<br><svg viewBox="0 0 390 114" style="width:100%;max-width:390px" fill="none" '
        f'role="img" aria-label="values over the steps"><path d="{frame}" stroke="currentColor" '
        f'opacity="0.4"/><polyline points="{points}" stroke="#1f77b4" stroke-width="1.8"/>'
        f"{''.join(labels)}</svg>"
    )


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" font-family="sans-serif" '
        f'fill="currentColor">{html.escape(text)}</text>'
    )


# Attached here, since schedules lie in a lower folder than drawings.
Schedule._repr_html_ = drawn  # pyright: ignore[reportAttributeAccessIssue]
