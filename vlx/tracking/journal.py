"""The journal of a run: every operation is appended to a file, then sent by a background thread.

journal.jsonl  one JSON object a line: {"op": kind, "time_ms": since 1970, ...}; it holds what a dead server missed
journal.state  how far it is sent: the fields of State
"""

import dataclasses
import fcntl
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vlx.errors import UserError
from vlx.files import write_json

log = logging.getLogger("vlx")
Operation = dict[str, Any]
JOURNAL_FILE = "journal.jsonl"
STATE_FILE = "journal.state"
BATCH_LINES = 900  # sent before the state is written
CLOSING_ATTEMPTS = 3  # failures after which close() leaves the rest to sync
MAX_DOUBLINGS = 5  # of the pause between attempts, one after each failure


@dataclasses.dataclass
class State:
    """How far a journal is sent, and what the server answered."""

    uri: str = ""
    offset: int = 0  # bytes of the journal that are sent
    run_id: str = ""
    experiment_id: str = ""
    launcher_run_id: str = ""  # the run that `mlflow run` made to continue this one
    results: dict[str, str] = dataclasses.field(default_factory=dict)  # uuid of an operation -> id or version it made


class Journal:
    """One process at a time writes in a folder. Appending never raises for a full disk and never waits for a server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL_FILE
        self.file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.close()
            raise UserError(f"{folder}: another process writes this run; wait, or choose another folder.") from None
        self.file.truncate(self.path.read_bytes().rfind(b"\n") + 1)  # drop the part of a line that a kill left
        self.lock = threading.Lock()
        self.unwritten = b""  # lines that a full disk refused
        self.written_keys: set[Any] = set()  # a resumed run repeats its last steps
        for operation, _ in read(self.path, 0):
            self.written_keys.update(unique_keys(operation))

    def append(self, op: str, **fields: Any) -> None:
        """Write an operation, unless its uuid was written before. Lines refused by a full disk precede the next one."""
        operation = {"op": op, "time_ms": int(time.time() * 1000), **fields}
        with self.lock:
            if operation.get("uuid") in self.written_keys:
                return
            self.written_keys.update(unique_keys(operation))
            self.unwritten += json.dumps(operation).encode() + b"\n"
            end = self.size()
            try:
                if self.file.write(self.unwritten) < len(self.unwritten):
                    raise OSError("the disk is full")
                self.unwritten = b""
            except OSError as error:
                self.file.truncate(end)  # no half line
                log.warning("%s: %s; kept in memory for now.", self.path, error)

    def append_metrics(self, values: dict[str, float], step: int) -> None:
        """Write the values whose (name, step) was not written before."""
        new = {name: value for name, value in values.items() if (name, step) not in self.written_keys}
        if new:
            self.append("metrics", step=step, values=new)

    def size(self) -> int:
        return self.path.stat().st_size

    def close(self) -> None:
        self.file.close()


def unique_keys(operation: Operation) -> set[Any]:
    """Return what must not be written a second time: (metric, step) of each value, and the uuid."""
    keys: set[Any] = {(name, operation["step"]) for name in operation.get("values", ())}
    return keys | {operation["uuid"]} if "uuid" in operation else keys


def read(path: Path, offset: int) -> Iterator[tuple[Operation, int]]:
    """Yield complete operations from `offset` bytes on, each with the offset after it; a damaged line has no effect."""
    with path.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield json.loads(line), offset
            except ValueError:
                log.warning("%s: a damaged line before byte %d is skipped.", path, offset)
                yield {"op": "tags", "tags": {}}, offset


def read_state(folder: Path) -> State:
    path = folder / STATE_FILE
    return State(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else State()


class Uploader(threading.Thread):
    """Sends a journal until closed; never raises.

    `send(operations, state)` must be safe to repeat; any error of it means: try again later.
    """

    poll_seconds = 1.0  # between two reads of the journal; after failures up to 2**MAX_DOUBLINGS times as long

    def __init__(self, journal: Journal, send: Callable[[list[Operation], State], None], *, uri: str) -> None:
        super().__init__(name="vlx-journal", daemon=True)
        self.journal = journal
        self.send = send
        self.folder = journal.path.parent
        self.state = dataclasses.replace(read_state(self.folder), uri=uri)
        self.wake = threading.Event()
        self.closing = False
        self.failures = 0
        self.error = ""
        self.write_state()

    def run(self) -> None:
        while True:
            self.send_pending()
            if self.closing and (self.failures >= CLOSING_ATTEMPTS or not self.has_pending()):
                return
            doublings = 0 if self.closing else min(self.failures, MAX_DOUBLINGS)
            self.wake.wait(self.poll_seconds * 2**doublings)
            self.wake.clear()

    def send_pending(self) -> None:
        """Send the unsent operations; an error is logged the first time."""
        try:
            while lines := list(islice(read(self.journal.path, self.state.offset), BATCH_LINES)):
                self.send([operation for operation, _ in lines], self.state)
                _, self.state.offset = lines[-1]
                self.write_state()
            self.failures = 0
            self.error = ""
        except Exception as error:  # whatever it is, training goes on
            if not self.error:
                log.warning("%s: nothing is lost, but not sent yet (%s).", self.folder, str(error)[:300])
            self.failures += 1
            self.error = f"{type(error).__name__}: {error}"

    def write_state(self) -> None:
        write_json(self.folder / STATE_FILE, dataclasses.asdict(self.state))

    def has_pending(self) -> bool:
        return self.state.offset < self.journal.size()

    def flush(self, timeout: float) -> bool:
        """Wait until all is sent, an attempt fails, or `timeout` seconds pass; return whether all is sent."""
        deadline = time.monotonic() + timeout
        self.failures = 0
        self.wake.set()
        while self.has_pending() and not self.failures and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.has_pending()

    def close(self, timeout: float) -> bool:
        """Send the rest for at most `timeout` seconds, less if the server is dead; False if a part is left to sync."""
        self.failures = 0
        self.closing = True
        self.wake.set()
        self.join(timeout)
        return not self.has_pending()
