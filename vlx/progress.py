"""Progress with an estimate of the time left: a bar on a terminal, a line every few seconds in a log."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("vlx")
LOG_SECONDS = 10.0  # between two lines in a log


class Meter:
    """Counts completed items of `total`."""

    def __init__(self, title: str, total: int, bar: Progress | None) -> None:
        self.title = title
        self.total = total
        self.bar = bar
        self.completed = 0
        self.resumed_at = 0
        self.started = time.monotonic()
        self.last_logged = self.started
        self.row = bar.add_task(title, total=total, note="") if bar else None

    def resume(self, completed: int) -> None:
        """Start at `completed` items; items before this process do not count for the estimate."""
        self.completed = completed
        self.resumed_at = completed
        if self.bar and self.row is not None:
            self.bar.update(self.row, completed=completed)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.completed += count
        if self.bar and self.row is not None:
            self.bar.update(self.row, advance=count)
            self.bar.tasks[self.row].fields["note"] = note
        elif time.monotonic() - self.last_logged >= LOG_SECONDS:
            self.last_logged = time.monotonic()
            log.info("%s %d/%d, %s left %s", self.title, self.completed, self.total, self.time_left(), note)

    def time_left(self) -> str:
        rate = max(self.completed - self.resumed_at, 1) / (time.monotonic() - self.started)
        minutes, seconds = divmod(int((self.total - self.completed) / rate), 60)
        return f"{minutes}:{seconds:02d}"


@contextmanager
def meter(title: str, total: int) -> Iterator[Meter]:
    """Show the progress over `total` items on stderr."""
    if not sys.stderr.isatty():
        yield Meter(title, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Meter(title, total, bar)
