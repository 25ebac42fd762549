"""Tables of results: on a terminal, in Markdown, and of two files side by side."""

import re
from pathlib import Path
from typing import Any

import rich.box
from rich.markup import escape
from rich.table import Table

from benchmarks.results import Results, numbers

# Between these lines of a page stands the table of one kind of device.
MARKS = {
    "cpu": ("<!-- table: begin -->", "<!-- table: end -->"),
    "gpu": ("<!-- table of a GPU: begin -->", "<!-- table of a GPU: end -->"),
}
SCALES = {
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "FLOP/s": ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s")),
}
COUNTED = "calls", "products", "events"


def text_of(value: float, unit: str) -> str:
    """A value with its unit, as people read it."""
    if unit in COUNTED:
        return f"{value:,.0f}"
    if unit in SCALES:
        scale, unit = next((x for x in SCALES[unit] if abs(value) >= x[0]), SCALES[unit][-1])
        return (
            f"{value / scale:.3g} {unit}"
            if abs(value / scale) < 999.5
            else f"{value / scale:,.0f} {unit}"
        )
    if unit == "B per parameter":
        return f"{value:.1f} B per parameter"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def measured(number: Results) -> str:
    """A number with its interval."""
    text = text_of(number["value"], number["unit"])
    if number["low"] is None:
        return text
    low, high = (text_of(number[end], number["unit"]) for end in ("low", "high"))
    return f"{text} ({low} to {high})"


def details(number: Results) -> str:
    return ", ".join(f"{name} {text_of(*each)}" for name, each in number["details"].items())


def goal(number: Results) -> str:
    if number["goal"] is None:
        return "stated"
    sense, limit = number["goal"]
    text = text_of(limit, number["unit"])
    return f"{'at most' if sense == '<=' else 'at least'} {text if ' ' in text else f'{limit:,g}'}"


def headline(results: Results) -> str:
    """Date, commit, versions and machine in two sentences."""
    of = results["about"]
    versions = ", ".join(
        f"{name} {of[name]}" for name in ("python", "jax", "jaxlib", "optax", "gradtx")
    )
    changed = ", with changes that are not committed" if of["dirty"] else ""
    text = f"Measured on {of['date']} at commit {of['commit'][:10]}{changed}, with {versions}, "
    text += f"on {of['processor']} with {of['cores']} cores ({of['device']})."
    if of["clock"] == "process_time":
        text += " Times are CPU time."
    if of["quick"]:
        text += " Fewer rounds were measured (`--quick`)."
    if (of["load_before"] or 0) > 0.5:
        text += (
            f" Other work ran beside the benchmarks (load {of['load_before']}); ratios are usable."
        )
    for part in of.get("again", ()):
        names = ", ".join(f"`{name}`" for name in part["names"])
        text += f" Measured again on {part['date']} at commit {part['commit'][:10]}"
        busy = (part["load_before"] or 0) > 0.5
        text += f" beside other work (load {part['load_before']})" * busy + f": {names}."
    return text


def rows(results: Results) -> list[list[str]]:
    """Cells of the table under `HEADS`; a cell that would repeat what stands above it is empty."""
    found = []
    for entry in results["benchmarks"]:
        what, against = entry["what"], entry["against"]
        for number in entry["numbers"]:
            cells = [what, number["case"], against, goal(number), measured(number)]
            found.append([*cells, number["reached"] or "", details(number)])
            what = against = ""
        for outcome in ("skipped", "failed"):
            if outcome in entry:
                found.append([what, "", against, "", outcome, "", entry[outcome]])
    return found


HEADS = ["what", "case", "against", "goal", "measured (95% interval)", "reached", "beside it"]


def terminal(results: Results) -> Table:
    """The table for a terminal."""
    table = Table(*HEADS, box=rich.box.SIMPLE_HEAD)
    for row in rows(results):
        table.add_row(*map(escape, row), style="red" if row[5] == "no" else "")
    return table


def markdown(results: Results) -> str:
    """The table for a page, with date and machine above it and the origin of the goals below it."""
    lines = [headline(results), "", f"| {' | '.join(HEADS)} |", "| --- " * len(HEADS) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(results)]
    lines += ["", "Why these goals:", ""]
    for entry in results["benchmarks"]:
        lines.append(
            f"- **{entry['what']}** against {entry['against']} (`{entry['name']}`): {entry['because']}"
        )
    return "\n".join(lines) + "\n"


def update_page(page: Path, results: Results, device: str = "cpu") -> None:
    """Replace the table of a kind of device in a page."""
    begin, end = MARKS[device]
    page.write_text(
        re.sub(
            f"{begin}.*{end}",
            lambda _: f"{begin}\n\n{markdown(results)}\n{end}",
            page.read_text(),
            flags=re.DOTALL,
        )
    )


def verdict(old: Results, new: Results) -> str:
    """ "worse" or "better" if the intervals do not meet, or if a counted number moved; else nothing."""
    higher_is_better = (new["goal"] or ["<="])[0] == ">="
    ends = [
        (x["value"], x["value"]) if x["low"] is None else (x["low"], x["high"]) for x in (old, new)
    ]
    (old_low, old_high), (new_low, new_high) = ends
    rounding = 1e-6 * max(abs(old_low), abs(old_high))
    if new_low > old_high + rounding:
        return "better" if higher_is_better else "worse"
    if new_high < old_low - rounding:
        return "worse" if higher_is_better else "better"
    return ""


def comparison(old: Results, new: Results) -> tuple[Table, int]:
    """Old, new and the ratio of every number, and how many became worse beyond the interval."""
    table = Table("what", "case", "old", "new", "new / old", "", box=rich.box.SIMPLE_HEAD)
    before, after, worse = numbers(old), numbers(new), 0
    for key in before | after:
        entry, one = (after | before)[key]
        cells: list[Any] = [f"{entry['what']} (against {entry['against']})", one["case"]]
        if key in before and key in after:
            a, b = before[key][1], after[key][1]
            mark = verdict(a, b)
            worse += mark == "worse"
            ratio = f"{b['value'] / a['value']:.3f}" if a["value"] else ""
            cells += [measured(a), measured(b), ratio, mark]
        else:
            cells += (
                [measured(before[key][1]), "", "", "gone"]
                if key in before
                else ["", measured(one), "", "new"]
            )
        style = {"worse": "red", "better": "green"}.get(cells[-1], "")
        table.add_row(*map(escape, cells), style=style)
    return table, worse


def different_machines(old: Results, new: Results) -> str:
    """A warning if the two results come from different machines or versions, else an empty text."""
    keys = "processor", "cores", "device", "jax", "jaxlib", "optax", "python", "clock"
    found = [
        f"{key} ({old['about'][key]}, {new['about'][key]})"
        for key in keys
        if old["about"].get(key) != new["about"].get(key)
    ]
    return (
        f"The two results differ in {', '.join(found)}: compare ratios, not seconds."
        if found
        else ""
    )
