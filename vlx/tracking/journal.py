"""The journal of a run: every operation is appended to a file, then sent by a background thread.

journal.jsonl  one JSON object a line: {"op", "t" (ms since 1970), ...}; what a dead server missed is still there
journal.state  how far it is sent: {"uri", "offset" (bytes), "run_id", "experiment_id", "also", "results"}
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vlx.errors import UserError

log = logging.getLogger("vlx")
Op = dict[str, Any]
State = dict[str, Any]
JOURNAL, STATE = "journal.jsonl", "journal.state"
LINES = 900  # sent before the state is written
SECONDS = 1.0  # between two looks at the journal; after failures up to 32 times as many
LAST_TRIES = 3  # failures after which close() leaves the rest to sync


class Journal:
    """One process at a time writes in a folder. Appending never raises for a full disk and never waits for a server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL
        self.file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise UserError(f"{folder}: another process writes this run; wait, or choose another folder.") from None
        self.file.truncate(self.path.read_bytes().rfind(b"\n") + 1)  # without what a kill left of the last line
        self.lock, self.unwritten = threading.Lock(), b""  # what a full disk refused
        self.done: set[Any] = set()  # (metric, step) and uuids: a resumed run repeats its last steps
        for op, _ in read(self.path, 0):
            self.done.update(marks(op))

    def append(self, op: str, **fields: Any) -> None:
        """Write an operation, unless its uuid is there. What a full disk refuses is written with the next one."""
        entry = {"op": op, "t": int(time.time() * 1000), **fields}
        with self.lock:
            if entry.get("uuid") in self.done:
                return
            self.done.update(marks(entry))
            self.unwritten += json.dumps(entry).encode() + b"\n"
            end = self.size()
            try:
                if self.file.write(self.unwritten) < len(self.unwritten):
                    raise OSError("the disk is full")
                self.unwritten = b""
            except OSError as error:
                self.file.truncate(end)  # no half line
                log.warning("%s: %s; kept in memory for now.", self.path, error)

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write the values whose (name, step) was never written before."""
        new = {key: value for key, value in values.items() if (key, step) not in self.done}
        if new:
            self.append("metrics", step=step, values=new)

    def size(self) -> int:
        return self.path.stat().st_size

    def close(self) -> None:
        self.file.close()


def marks(op: Op) -> set[Any]:
    """What must not be written twice."""
    return {(key, op["step"]) for key in op.get("values", ())} | ({op["uuid"]} if "uuid" in op else set())


def read(path: Path, offset: int) -> Iterator[tuple[Op, int]]:
    """Whole operations from `offset` bytes on, each with the offset after it; a damaged line does nothing."""
    with path.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield json.loads(line), offset
            except ValueError:
                log.warning("%s: a damaged line before byte %d is left out.", path, offset)
                yield {"op": "tags", "tags": {}}, offset


def read_state(folder: Path) -> State:
    path, empty = folder / STATE, {"uri": "", "offset": 0, "run_id": "", "experiment_id": "", "also": "", "results": {}}
    return empty | (json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})


class Uploader(threading.Thread):
    """Sends a journal until closed; never raises.

    `send(operations, state)` must be harmless when done twice; whatever it raises means: try again later.
    """

    def __init__(self, journal: Journal, send: Callable[[list[Op], State], None], uri: str) -> None:
        super().__init__(name="vlx-journal", daemon=True)
        self.journal, self.send, self.folder = journal, send, journal.path.parent
        self.state = read_state(self.folder) | {"uri": uri}
        self.wake, self.closing = threading.Event(), False
        self.failures, self.error = 0, ""
        self.write_state()

    def run(self) -> None:
        while True:
            self.attempt()
            if self.closing and (self.failures >= LAST_TRIES or not self.waiting()):
                return
            self.wake.wait(SECONDS if self.closing else SECONDS * 2 ** min(self.failures, 5))
            self.wake.clear()

    def attempt(self) -> None:
        """Send all there is; what goes wrong is logged once."""
        try:
            while lines := list(islice(read(self.journal.path, self.state["offset"]), LINES)):
                self.send([op for op, _ in lines], self.state)
                self.state["offset"] = lines[-1][1]
                self.write_state()
            self.failures, self.error = 0, ""
        except Exception as error:  # whatever it is, training goes on
            if not self.error:
                log.warning("%s: nothing is lost, but not sent yet (%s).", self.folder, str(error)[:300])
            self.failures, self.error = self.failures + 1, f"{type(error).__name__}: {error}"

    def write_state(self) -> None:
        partial = self.folder / f"{STATE}.partial"
        partial.write_text(json.dumps(self.state), encoding="utf-8")
        os.replace(partial, self.folder / STATE)

    def waiting(self) -> bool:
        return self.state["offset"] < self.journal.size()

    def flush(self, timeout: float) -> bool:
        """Wait until all is sent, a try has failed, or `timeout` seconds have passed; True if all is sent."""
        self.failures, deadline = 0, time.monotonic() + timeout
        self.wake.set()
        while self.waiting() and not self.failures and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.waiting()

    def close(self, timeout: float) -> bool:
        """Send the rest, at most `timeout` seconds, fewer if the server is dead. False: something is left to sync."""
        self.failures, self.closing = 0, True
        self.wake.set()
        self.join(timeout)
        return not self.waiting()
