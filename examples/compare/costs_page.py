"""The part of the page on what a step costs."""

import math
from collections.abc import Iterator
from typing import Any

from .markdown import image, table
from .ranking import ranked, state_on_first


def costs(results: Any) -> Iterator[str]:
    """The paragraphs, and a table of times, states and seconds to the targets of one problem."""
    costs = {k: x for k, x in results["costs"].items() if isinstance(x, dict) and "error" not in x}
    if not costs:
        return
    on = results["costs"]["on"]
    yield "## What a step costs"
    yield (
        f"The time of the optimizer alone, without the gradient, on the parameters of *{on}*, beside "
        "AdamW in the same process: the median of five rounds, with the lowest and the highest. With a "
        "network of this size the gradient takes most of a step, and on a GPU or with other shapes the "
        "ratios are others. An optimizer that takes further gradients in a step, such as `sam`, pays "
        "for them on top."
    )
    yield image("costs", "Time per step and state of the optimizers alone.")
    if adamw := costs.get("adamw"):
        yield (
            f"AdamW takes {adamw['adamw_microseconds']:.0f} microseconds per step there. Timed against "
            f"itself, its ratios lie between {adamw['lowest']:.2f} and {adamw['highest']:.2f}, which is "
            "how far these times can be trusted."
        )
    gradient = results["costs"].get("gradient_microseconds")
    if gradient:
        yield (
            f"A gradient of *{on}* takes {gradient / 1000:.1f} milliseconds there. The seconds to a "
            "target are the steps to it times the time of the gradient and of the optimizer together."
        )
    about = results["problems"].get(on, {"targets": []})
    rows = {row.name: row for row in ranked(results, on)} if about["targets"] else {}
    known = state_on_first(results)
    lines = []
    for name, x in sorted(costs.items(), key=lambda item: item[1]["times_adamw"]):
        if name not in known:
            continue
        line = [f"`{name}`", f"{x['times_adamw']:.2f} ({x['lowest']:.2f} to {x['highest']:.2f})"]
        line.append(f"{known[name]:,}")
        for i, _ in enumerate(about["targets"] if gradient else ()):
            steps = rows[name].steps[i] if name in rows else math.inf
            seconds = steps * (gradient + x["microseconds"]) / 1e6
            line.append(f"{seconds:.2f}" if math.isfinite(seconds) else "–" if name in rows else "")
        lines.append(line)
    heads = ["optimizer", "times AdamW", f"state bytes on {next(iter(results['problems']))}"]
    heads += [f"seconds to {target:g} on {on}" for target in about["targets"] if gradient]
    yield table(heads, lines)
