"""How signals end a run."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger("vlx")
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 30.0  # seconds: a run that polled so lately will poll again; a signal waits no longer


class Pruned(Exception):
    """A search has ended this trial: it is not going to be its best."""


class Stop:
    """Signals that end a run: inside a training step they wait for its end, a second one of a kind does not."""

    def __init__(self) -> None:
        self.asked, self.polled = 0, -PATIENCE
        self.before: dict[int, Any] = {}
        self.timer: threading.Timer | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            found = {kind: signal.getsignal(kind) for kind in KINDS}
            self.before = {kind: each for kind, each in found.items() if each != signal.SIG_IGN}  # nohup stays
        for kind in self.before:
            signal.signal(kind, self.handle)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for kind, handler in self.before.items():
            signal.signal(kind, handler)
        if self.timer:
            self.timer.cancel()
        if self.asked and error is None:  # the run came to its end first; what follows it shall not start
            self.leave()

    def handle(self, kind: int, frame: FrameType | None) -> None:
        if self.asked == kind or time.monotonic() - self.polled >= PATIENCE:
            self.asked = kind
            self.leave()
        if not self.asked:
            log.warning("Stopping after this step; once more stops at once.")
            self.asked = kind
            self.timer = threading.Timer(PATIENCE, signal.raise_signal, [kind])
            self.timer.daemon = True
            self.timer.start()

    def poll(self, before: Callable[[], None]) -> None:
        self.polled = time.monotonic()
        if self.asked:
            before()
            self.leave()

    def leave(self) -> None:
        raise KeyboardInterrupt if self.asked == signal.SIGINT else SystemExit(128 + self.asked)


def status_of(error: BaseException) -> str:
    """The status in MLflow of a run that ended so."""
    code = error.code if isinstance(error, SystemExit) else 1
    if isinstance(error, (KeyboardInterrupt, Pruned)) or code in [128 + kind for kind in KINDS]:
        return "KILLED"
    return "FAILED" if code else "FINISHED"
