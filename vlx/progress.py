"""Progress with an estimate of what is left: a bar on a terminal, a line now and then in a log."""

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
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("vlx")
QUIET_SECONDS = 10.0  # between two lines in a log


class Meter:
    """Counts what is done of `total`."""

    def __init__(self, title: str, total: int, bar: Progress | None) -> None:
        self.title, self.total, self.bar = title, total, bar
        self.done, self.first = 0, 0
        self.started = self.told = time.monotonic()
        self.row = bar.add_task(title, total=total, note="") if bar else None

    def resume(self, done: int) -> None:
        """Work done before this process does not count for the estimate."""
        self.done = self.first = done
        if self.bar and self.row is not None:
            self.bar.update(self.row, completed=done)

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        if self.bar and self.row is not None:
            self.bar.update(self.row, advance=count)
            self.bar.tasks[self.row].fields["note"] = note
        elif time.monotonic() - self.told >= QUIET_SECONDS:
            self.told = time.monotonic()
            log.info("%s %d/%d, %s left %s", self.title, self.done, self.total, self.left(), note)

    def left(self) -> str:
        rate = max(self.done - self.first, 1) / (time.monotonic() - self.started)
        minutes, seconds = divmod(int((self.total - self.done) / rate), 60)
        return f"{minutes}:{seconds:02d}"


@contextmanager
def meter(title: str, total: int) -> Iterator[Meter]:
    """Show the progress of `total` pieces of work on stderr."""
    if not sys.stderr.isatty():
        yield Meter(title, total, None)
        return
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    columns += [TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Meter(title, total, bar)
