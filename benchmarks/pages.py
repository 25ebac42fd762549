"""Tables in Markdown on the page docs/long_runs.md, whose rows are written one at a time."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "long_runs.md"


def line(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its head."""
    return "".join(map(line, [head, ["---"] * len(head), *rows]))


def rows_of(name: str) -> dict[str, list[str]]:
    """The rows of a table on the page, by the name of the recipe in the first cell."""
    text = PAGE.read_text()
    begin, end = marks(name)
    lines = text[text.index(begin) + len(begin) : text.index(end)].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {recipe(row): row for row in rows}


def recipe(row: Sequence[str]) -> str:
    """The name of the recipe in the first cell of a row, which may have arguments."""
    return re.findall(r"\w+", row[0])[0]


def update(
    name: str, head: Sequence[str], rows: Iterable[Sequence[str]], order: Iterable[str]
) -> None:
    """Replace rows of a table on the page, and keep its other rows.

    Args:
        name: the name of the table.
        head: its first line.
        rows: the new rows.
        order: the names of all recipes that the table may have, in the order of the rows.
    """
    known = rows_of(name) | {recipe(row): list(row) for row in rows}
    begin, end = marks(name)
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    shown = table(head, [known[x] for x in order if x in known])
    PAGE.write_text(f"{before}{begin}\n\n{shown}\n{end}{after}")


def marks(name: str) -> tuple[str, str]:
    """What stands before and after a table."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
