"""Signals that end a run."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger("vlx")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEP_SECONDS = 30.0  # a run that polled within this time is expected to poll again; a signal waits no longer


class Pruned(Exception):
    """A search ended this trial because it cannot become the best."""


class StopSignals:
    """End a run on a signal: at the end of the current step, or at once if the same signal comes a second time."""

    def __init__(self) -> None:
        self.requested = 0  # the signal's number; 0: none
        self.last_poll = -STEP_SECONDS
        self.previous_handlers: dict[int, Any] = {}
        self.timer: threading.Timer | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self.previous_handlers = {
                number: handler
                for number, handler in handlers.items()
                if handler != signal.SIG_IGN  # as nohup sets it
            }
        for number in self.previous_handlers:
            signal.signal(number, self.handle)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        if self.timer:
            self.timer.cancel()
        if self.requested and error is None:  # the run ended before its next step; the program still has to stop
            self.exit()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested == number or time.monotonic() - self.last_poll >= STEP_SECONDS:
            self.requested = number
            self.exit()
        if not self.requested:
            log.warning("Stopping after this step; the same signal again stops at once.")
            self.requested = number
            self.timer = threading.Timer(STEP_SECONDS, signal.raise_signal, [number])
            self.timer.daemon = True
            self.timer.start()

    def poll(self, save: Callable[[], None]) -> None:
        """After a signal call `save` and exit."""
        self.last_poll = time.monotonic()
        if self.requested:
            save()
            self.exit()

    def expect_no_step(self) -> None:
        """From now on a signal exits at once."""
        self.last_poll = -STEP_SECONDS

    def exit(self) -> None:
        raise KeyboardInterrupt if self.requested == signal.SIGINT else SystemExit(128 + self.requested)


def status_of(error: BaseException) -> str:
    """Return the MLflow status of a run that ended with `error`."""
    code = error.code if isinstance(error, SystemExit) else 1
    if isinstance(error, (KeyboardInterrupt, Pruned)) or code in [128 + number for number in SIGNALS]:
        return "KILLED"
    return "FAILED" if code else "FINISHED"
