"""Tables in HTML, which notebooks display."""

import html
from collections.abc import Sequence

_TABLE = "border-collapse:collapse;font-family:monospace;font-size:12px"
_CELL = "text-align:left;padding:1px 12px 1px 0;white-space:pre;vertical-align:top"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a header, whose texts are escaped. It scrolls where it is too wide."""
    head = "".join(f'<th style="{_CELL}">{html.escape(text)}</th>' for text in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{html.escape(x)}</td>' for x in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div style="overflow-x:auto"><table style="{_TABLE}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def paragraph(text: str) -> str:
    """A line of text below a table, escaped."""
    return f'<p style="font-family:monospace;font-size:12px">{html.escape(text)}</p>'


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of text in columns that are padded to equal widths.

    Args:
        rows: the texts of every row.
        right: the indices of the columns that are aligned at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
