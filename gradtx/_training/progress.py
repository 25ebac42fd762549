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

    In a terminal, `rich` draws a bar if it is installed. Elsewhere, and without `rich`, a line goes to
    the standard error stream every ten seconds.
    """

    def __init__(self, total: int, show: bool) -> None:
        self.total, self.show, self.done = total, show, 0
        self.start = self.said = time.monotonic()
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
        if not self.show or now - self.start < _SILENT_SECONDS:
            return
        if sys.stderr.isatty() and importlib.util.find_spec("rich"):
            self._draw()
        elif now - self.said >= _SECONDS_BETWEEN_LINES and self.done < self.total:
            self.said = now
            left = (now - self.start) * (self.total - self.done) / self.done
            print(
                f"sweep: {self.done} of {self.total} trainings, {left:.0f} s left", file=sys.stderr
            )

    def _draw(self) -> None:
        import rich.console
        import rich.progress

        if self.bar is None:
            self.bar = rich.progress.Progress(
                rich.progress.TextColumn("sweep"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeRemainingColumn(),
                console=rich.console.Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.bar.add_task("", total=self.total)
        self.bar.update(0, completed=self.done)
