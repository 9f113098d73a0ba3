"""The journal of a run: every operation is appended to a file, then sent by a background thread.

journal.jsonl  one JSON object a line: {"op", "t" (ms since 1970), ...}; what a dead server missed is still there
journal.state  how far each server has got: {"last": uri, "servers": {uri: {"offset" (bytes), "run_id", "results"}}}
"""

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from vlx.errors import UserError

log = logging.getLogger("vlx")
Op = dict[str, Any]
JOURNAL, STATE = "journal.jsonl", "journal.state"
GROUP = 900  # values sent at once; the REST limit is 1,000
SECONDS = 1.0  # between two looks at the journal
LONGEST_WAIT = 30.0  # seconds between two tries at a dead server
LAST_TRIES = 3  # failures after which close() leaves the rest to sync


class Refused(Exception):
    """The server will never take this operation; it stays in the journal and the next ones go on."""


class Sender(Protocol):
    """Sends operations of one kind. Any exception but Refused means: try again later."""

    def start(self, state: dict[str, Any]) -> None: ...

    def send(self, ops: list[Op], state: dict[str, Any]) -> None: ...


class Journal:
    """One process at a time writes in a folder. Appending never raises for a full disk and never waits for a server."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.handle)
            raise UserError(
                f"{folder}: another process writes this run; wait for it or choose another folder."
            ) from None
        self.lock = threading.Lock()
        self.unwritten = b""  # what a full disk refused
        self.seen: dict[str, dict[int, int]] = {}  # metric -> step -> time: a resumed run repeats its last steps
        self.known: set[str] = set()  # uuids of the operations that must not be done twice
        cut_half_line(self.path)
        for op, _ in read(self.path, 0):
            self.remember(op)

    def remember(self, op: Op) -> None:
        for key in op.get("values", ()) if op["op"] == "metrics" else ():
            self.seen.setdefault(key, {})[op["step"]] = op["t"]
        if "uuid" in op:
            self.known.add(op["uuid"])

    def append(self, op: str, **fields: Any) -> None:
        """Write an operation, unless its uuid is already there."""
        entry = {"op": op, "t": int(time.time() * 1000), **fields}
        with self.lock:
            if entry.get("uuid") not in self.known:
                self.remember(entry)
                self.unwritten += json.dumps(entry).encode() + b"\n"
                self.write()

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write the values whose (name, step) was never written before."""
        new = {key: value for key, value in values.items() if step not in self.seen.get(key, {})}
        if new:
            self.append("metrics", step=step, values=new)

    def write(self) -> None:
        """One write call, so that a kill leaves whole lines; a full disk leaves no half line."""
        end = os.fstat(self.handle).st_size
        try:
            if os.write(self.handle, self.unwritten) < len(self.unwritten):
                raise OSError("the disk is full")
            self.unwritten = b""
        except OSError as error:
            os.ftruncate(self.handle, end)
            log.warning("%s: %s; kept in memory for now.", self.path, error)

    def size(self) -> int:
        return os.fstat(self.handle).st_size

    def close(self) -> None:
        os.close(self.handle)


def cut_half_line(path: Path) -> None:
    """Remove what a kill left of the last line."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def read(path: Path, offset: int) -> Iterator[tuple[Op, int]]:
    """Whole operations from `offset` bytes on, each with the offset after it; a damaged line is skipped."""
    with path.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                op = json.loads(line)
                yield (op if isinstance(op, dict) and "op" in op else {"op": "damaged"}), offset
            except ValueError:
                log.warning("%s: a damaged line before byte %d is left out.", path, offset)


class Uploader(threading.Thread):
    """Sends a journal to one server until closed; never raises."""

    def __init__(self, journal: Journal, sender: Sender, uri: str) -> None:
        super().__init__(name=f"vlx-{journal.path.parent.name}", daemon=True)
        self.journal, self.sender = journal, sender
        self.file = journal.path.with_name(STATE)
        self.states = read_state(self.file)
        self.states["last"] = uri
        self.state = self.states["servers"].setdefault(uri, {})
        for key, empty in {"offset": 0, "run_id": "", "experiment_id": "", "results": {}}.items():
            self.state.setdefault(key, empty)
        write_state(self.file, self.states)
        self.wake, self.contact = threading.Event(), threading.Event()
        self.closing, self.started_sending = False, False
        self.tries = self.failures = self.patience = 0
        self.error, self.refusals = "", set[str]()

    def run(self) -> None:
        while True:
            self.attempt()
            self.contact.set()
            if self.closing and (self.failures >= self.patience or not (self.failures or self.waiting())):
                return
            self.wake.wait(SECONDS if self.closing or not self.failures else min(2.0**self.failures, LONGEST_WAIT))
            self.wake.clear()

    def attempt(self) -> None:
        """Send all there is; on an error remember it for the next try."""
        try:
            self.pump()
            if self.failures:
                log.info("%s: the tracking server is back.", self.journal.path.parent)
            self.failures = 0
        except Exception as error:  # whatever it is, training goes on
            self.error = f"{type(error).__name__}: {error}"
            if not self.failures:
                log.warning("%s: nothing is lost, but not sent yet (%s).", self.journal.path.parent, self.error[:300])
            self.failures += 1
        finally:
            self.tries += 1

    def pump(self) -> None:
        if not self.started_sending:
            self.sender.start(self.state)
            self.started_sending = True
        while group := self.next_group():
            ops, end = group
            self.deliver(ops)
            self.state["offset"] = end
            write_state(self.file, self.states)

    def next_group(self) -> tuple[list[Op], int] | None:
        """The next operations of one kind, at most GROUP values together."""
        ops: list[Op] = []
        values, end = 0, self.state["offset"]
        for op, after in read(self.journal.path, end):
            values += len(op.get("values", "1"))
            if ops and (op["op"] != ops[0]["op"] or op["op"] != "metrics" or values > GROUP):
                break
            ops.append(op)
            end = after
        return (ops, end) if ops else None

    def deliver(self, ops: list[Op]) -> None:
        """Send a group; if the server refuses it, send one by one and leave out what it refuses."""
        try:
            self.sender.send(ops, self.state)
        except Refused as reason:
            if len(ops) > 1:
                for op in ops:
                    self.deliver([op])
            elif ops[0]["op"] not in self.refusals:
                self.refusals.add(ops[0]["op"])
                log.warning("%s: %s not taken (%s).", self.journal.path, ops[0]["op"], str(reason)[:300])

    def waiting(self) -> bool:
        return self.state["offset"] < self.journal.path.stat().st_size

    def flush(self, timeout: float) -> bool:
        """Wait until all written so far is sent; False once a try has failed, or after `timeout` seconds."""
        end, tries, deadline = self.journal.size(), self.tries, time.monotonic() + timeout
        self.wake.set()
        while self.state["offset"] < end and self.is_alive() and time.monotonic() < deadline:
            if self.failures and self.tries > tries:
                return False
            time.sleep(0.02)
        return self.state["offset"] >= end

    def close(self, timeout: float) -> bool:
        """Send the rest, at most `timeout` seconds, fewer if the server is dead. False: something is left to sync."""
        self.patience = self.failures + LAST_TRIES
        self.closing = True
        self.wake.set()
        self.join(timeout)
        return not self.waiting()


def read_state(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"last": "", "servers": {}}


def write_state(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(state), encoding="utf-8")
    os.replace(partial, path)
