"""How signals end a run."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger("vlx")
POLL_SECONDS = 30.0  # a run that asked `stop_if_asked` so lately will ask again


class Stop:
    """Signals that end a run: inside a training step they wait for its end, a second one of a kind does not."""

    def __init__(self) -> None:
        self.asked, self.polled = 0, -POLL_SECONDS
        self.before: dict[int, Any] = {}
        self.timer: threading.Timer | None = None

    def __enter__(self) -> None:
        kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if threading.current_thread() is threading.main_thread():
            self.before = {kind: signal.getsignal(kind) for kind in kinds}
            for kind, handler in self.before.items():
                if handler != signal.SIG_IGN:  # nohup, or a background job of a script
                    signal.signal(kind, self.handle)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for each, handler in self.before.items():
            signal.signal(each, handler)
        if self.timer:
            self.timer.cancel()
        if self.asked and kind is None:  # the run came to its end first; what follows it shall not start
            self.leave()

    def handle(self, kind: int, frame: FrameType | None) -> None:
        if self.asked != kind and time.monotonic() - self.polled < POLL_SECONDS:
            if not self.asked:
                log.warning("Stopping after this step; once more stops at once.")
                self.timer = threading.Timer(POLL_SECONDS, signal.raise_signal, [kind])
                self.timer.daemon = True
                self.timer.start()
            self.asked = self.asked or kind
            return
        self.asked = kind
        self.leave()

    def poll(self, before: Callable[[], None]) -> None:
        self.polled = time.monotonic()
        if self.asked:
            before()
            self.leave()

    def defer_no_more(self) -> None:
        self.polled = -POLL_SECONDS

    def leave(self) -> None:
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.asked)


def status_of(error: BaseException) -> str:
    """The status in MLflow of a run that ended so."""
    code = error.code if isinstance(error, SystemExit) else 1
    if isinstance(error, KeyboardInterrupt) or code in (128 + signal.SIGTERM, 128 + signal.SIGHUP):
        return "KILLED"
    return "FAILED" if code else "FINISHED"
