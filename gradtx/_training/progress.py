"""A bar that shows how far a long sweep is."""

import importlib.util
import sys
import time
from types import TracebackType
from typing import Any, Self

_SILENT_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts trainings, and shows the count once the work has taken two seconds.

    The label stands before the count; without a label nothing is shown. In a terminal, `rich` draws a
    bar if it is installed. Elsewhere, and without `rich`, a line goes to the standard error stream every
    ten seconds.
    """

    def __init__(self, total: int, label: str) -> None:
        self.total, self.label, self.done = total, label, 0
        self.start = self.said = self.first = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self) -> None:
        """Count one training."""
        self.done += 1
        now = time.monotonic()
        self.first = now if self.done == 1 else self.first
        if not self.label or now - self.start < _SILENT_SECONDS:
            return
        if sys.stderr.isatty() and importlib.util.find_spec("rich"):
            self._draw()
        elif now - self.said >= _SECONDS_BETWEEN_LINES and self.done < self.total:
            self.said = now
            print(
                f"{self.label}: {self.done} of {self.total} trainings{self._left(now)}",
                file=sys.stderr,
            )

    def _left(self, now: float) -> str:
        """The time that is left, as text. The first training says nothing, because it compiles."""
        if self.done < 2:
            return ""
        left = (now - self.first) * (self.total - self.done) / (self.done - 1)
        return f", {left:.0f} s left"

    def _draw(self) -> None:
        import rich.console
        import rich.markup
        import rich.progress

        if self.bar is None:
            self.bar = rich.progress.Progress(
                rich.progress.TextColumn(rich.markup.escape(self.label)),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeRemainingColumn(),
                console=rich.console.Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.bar.add_task("", total=self.total)
        self.bar.update(0, completed=self.done)
