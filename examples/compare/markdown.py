"""Pieces of Markdown."""

from typing import Any


def image(name: str, alt: str) -> str:
    """A figure of the page."""
    return f"![{alt}](comparison/{name}.png)"


def table(heads: Any, rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
