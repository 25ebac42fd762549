"""The figures of the page, each narrow enough for a phone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # The figures go to files and need no window.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, NullFormatter

from ..race.report import COLORS, STYLE
from .ranking import Row, for_all, ranked, state_on_first, steps_of_all
from .statistics import profile
from .trial import EVALUATIONS

# Always drawn, for orientation, beside the best ones.
KNOWN = ("sgd", "adamw", "muon")
WIDTH = 4.6  # inches, so that text stays readable at 390 pixels
MAPS = ("adamw", "muon", "sgd", "soap", "lion", "prodigy")


def draw_all(results: Any, folder: Path) -> list[str]:
    """Draw every figure of the page into a folder, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    style: Any = STYLE | {"font.size": 9}
    with plt.rc_context(style):
        for name, figure in figures(results):
            figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Source": digest(results)})
            plt.close(figure)
            names.append(f"{name}.png")
    return names


def digest(results: Any) -> str:
    """What tells results apart. Every figure holds that of its results."""
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()[:16]


def figures(results: Any) -> Any:
    """The name and the figure of each picture."""
    if shared := for_all(results):
        yield "profile", draw_profile(results, shared)
        yield "maps", draw_maps(results, shared[0])
    for name, about in results["problems"].items():
        yield f"curves_{name}", draw_curves(name, about, ranked(results, name))
    if len(results["costs"]) > 1:
        yield "costs", draw_costs(results)


def shown(rows: list[Row], best: int = 5) -> list[Row]:
    """The best rows, and those that everyone knows."""
    known = [row for row in rows[best:] if row.name in KNOWN]
    return rows[:best] + known


def style_of(name: str, order: list[str]) -> dict[str, Any]:
    """The style of a line. The known optimizers look the same in every figure."""
    if name in KNOWN:
        return {"color": ("#777777", "#000000", "#0072B2")[KNOWN.index(name)], "lw": 1.8}
    colors = [color for color in COLORS if color not in ("#0072B2", "#000000", "#888888")]
    i = [x for x in order if x not in KNOWN].index(name)
    dashes: Any = (0, (4, 1.5)) if i % 2 else "-"
    return {"color": colors[i % len(colors)], "lw": 1.5, "linestyle": dashes}


def draw_curves(problem: str, about: Any, rows: list[Row]) -> Any:
    """The reported score during training: the median of the fresh seeds, and 80% of them as a band."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    steps = np.linspace(0, about["steps"], EVALUATIONS + 1)
    lines = shown(rows)
    for row in lines:
        low, middle, high = map(np.array, row.record["curve"])
        style = style_of(row.name, [x.name for x in lines])
        axes.plot(steps[1:], middle[1:], label=row.name, **style)
        axes.fill_between(steps[1:], low[1:], high[1:], color=style["color"], alpha=0.15, lw=0)
    if "logarithm" in about["score_name"]:
        axes.set_ylabel("log10 of the distance to the minimum")
    else:
        axes.set(yscale="log", ylabel="score, lower is better")
        _few_ticks(axes.yaxis)
    axes.set(
        xlabel="step", title=f"{problem}: each at its chosen setting", xlim=(0, about["steps"])
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _few_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, without powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_profile(results: Any, problems: list[str]) -> Any:
    """How many targets each optimizer reaches within a factor of the fewest steps."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8), layout="constrained")
    factors = np.geomspace(1, 8, 200)
    shares = profile(steps_of_all(results, problems), factors)
    order = sorted(shares, key=lambda name: -float(np.mean(shares[name])))
    lines = order[:6] + [name for name in KNOWN if name in order[6:]]
    for name in order:
        if name not in lines:
            axes.plot(factors, shares[name], color="#dddddd", lw=0.7, zorder=1)
    for name in lines:
        axes.step(factors, shares[name], where="post", label=name, **style_of(name, lines))
    axes.set(
        xscale="log", xlabel="factor of the fewest steps", ylabel="share of the targets reached"
    )
    axes.set(xlim=(1, 8), ylim=(0, 1), xticks=(1, 1.5, 2, 3, 4, 6, 8))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title(f"{len(problems)} problems, two targets each")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_maps(results: Any, problem: str) -> Any:
    """The score of every setting, as a map over the learning rate and the second number."""
    rows = {row.name: row for row in ranked(results, problem)}
    names = [name for name in MAPS if name in rows]
    figure, grid = plt.subplots(
        -(-len(names) // 2), 2, figsize=(WIDTH, 1.75 * -(-len(names) // 2)), layout="constrained"
    )
    means = {
        name: {(x[0], _scalar(x[1])): float(np.mean(x[2:])) for x in rows[name].record["tried"]}
        for name in names
    }
    best = min(min(x.values()) for x in means.values())
    start = max(rows[name].record["start"] for name in names)
    image = None
    for axes, name in zip(grid.flat, names, strict=False):
        rates, seconds = (sorted({k[i] for k in means[name]}) for i in (0, 1))
        table = np.array([[means[name].get((r, s), np.nan) for r in rates] for s in seconds])
        image = axes.imshow(
            np.minimum(table, start), origin="lower", aspect="auto", cmap="viridis_r",
            norm=LogNorm(best, start),
        )  # fmt: skip
        y, x = np.unravel_index(int(np.nanargmin(table)), table.shape)
        axes.plot(x, y, "*", color="white", ms=9, mec="black", mew=0.6)
        axes.set(title=name, yticks=range(len(seconds)), xticks=range(0, len(rates), 2))
        axes.set_yticklabels([f"{s:g}" for s in seconds])
        axes.set_xticklabels(
            [f"{r:.0e}".replace("e-0", "e-").replace("e+0", "e") for r in rates[::2]]
        )
        axes.set_ylabel((rows[name].record["second_name"] or "").split(".")[-1])
        axes.tick_params(labelsize=7)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    figure.supxlabel("learning rate", fontsize=9)
    if image is not None:
        bar = figure.colorbar(
            image, ax=grid, location="bottom", shrink=0.7, pad=0.02, label="score"
        )
        _few_ticks(bar.ax.xaxis)
    return figure


def _scalar(second: Any) -> float:
    """A second number as a coordinate of a map; 0 where there is none."""
    if isinstance(second, list | tuple):
        return float(second[0])
    return 0.0 if second is None else float(second)


def draw_costs(results: Any) -> Any:
    """The time of the optimizer alone, and its state on the first problem, both in times of AdamW's."""
    costs = {
        name: x for name, x in results["costs"].items() if isinstance(x, dict) and "error" not in x
    }
    order = sorted(costs, key=lambda name: costs[name]["times_adamw"])
    figure, axes = plt.subplots(figsize=(WIDTH, 0.125 * len(order) + 1), layout="constrained")
    y = np.arange(len(order))
    ratios = np.array([costs[name]["times_adamw"] for name in order])
    axes.barh(y, ratios, color=["#0072B2" if name in KNOWN else "#99b8cc" for name in order])
    state = state_on_first(results)
    if least := state.get("adamw"):
        copies = [max(state.get(name, np.nan) / least, 0.06) for name in order]
        axes.plot(copies, y, "o", color="#D55E00", ms=3.5)
        axes.set_xlim(left=0.05)  # a few have almost no state
    axes.axvline(1, color="#444444", lw=0.8)
    axes.set(xscale="log", yticks=y, ylim=(-0.7, len(order) - 0.3))
    axes.set_yticklabels(order, fontsize=6.5)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="times AdamW's: time of a step (bars), state (dots)")
    return figure
