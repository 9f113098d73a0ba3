import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlx.errors import UserError
from vlx.tracking.journal import Journal, Operation, State, Uploader, read, read_state


class FakeServer:
    """Receives operations; the next `failing` calls raise."""

    def __init__(self, *, failing: int = 0) -> None:
        self.failing = failing
        self.received: list[Operation] = []

    def send(self, operations: list[Operation], state: State) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("down")
        self.received += operations

    def points(self) -> list[tuple[int, float]]:
        return [(operation["step"], value) for operation in self.received for value in operation["values"].values()]


def ops(folder: Path) -> list[Operation]:
    return [operation for operation, _ in read(folder / "journal.jsonl", 0)]


def start(folder: Path, server: FakeServer) -> tuple[Journal, Uploader]:
    journal = Journal(folder)
    uploader = Uploader(journal, server.send, uri="fake")
    uploader.start()
    return journal, uploader


@given(length=st.integers(0, 200), note=st.text(max_size=20))
def test_a_journal_cut_at_any_byte_of_its_last_line_keeps_the_lines_before_and_continues(
    length: int, note: str
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        journal = Journal(folder)
        journal.append_metrics({"loss": 0.5}, 1)
        complete = journal.size()
        journal.append("tags", tags={"note": note})
        end = journal.size()
        journal.close()
        os.truncate(folder / "journal.jsonl", min(complete + length, end))
        journal = Journal(folder)
        journal.append_metrics({"loss": 0.25}, 2)
        journal.close()
        expected = ["metrics", "tags", "metrics"] if complete + length >= end else ["metrics", "metrics"]
        assert [op["op"] for op in ops(folder)] == expected
        assert [op["step"] for op in ops(folder) if op["op"] == "metrics"] == [1, 2]


def test_a_repeated_step_is_dropped_also_after_reopening(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in (25, 50, 75):
        journal.append_metrics({"loss": 1.0}, step)
    journal.close()
    journal = Journal(tmp_path)
    for step in (50, 75, 100):  # the checkpoint was of step 25
        journal.append_metrics({"loss": 2.0, "new": 3.0}, step)
    journal.close()
    written = [(op["step"], key) for op in ops(tmp_path) for key in op["values"]]
    assert written == [(25, "loss"), (50, "loss"), (75, "loss"), (50, "new"), (75, "new"), (100, "loss"), (100, "new")]


def test_an_operation_with_the_same_uuid_is_written_once(tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path)
        journal.append("model", uuid="a")
        journal.append("model", uuid="a")
        journal.close()
    assert len(ops(tmp_path)) == 1


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(UserError, match="another process writes this run"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


class FullDisk:
    """A file on a disk with room for seven more bytes."""

    def __init__(self, disk: Any) -> None:
        self.disk = disk
        self.truncate = disk.truncate

    def write(self, data: bytes) -> int:
        return self.disk.write(data[:7])


def test_a_full_disk_raises_nothing_leaves_no_half_line_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append_metrics({"loss": 1.0}, 1)
    disk = journal.file
    monkeypatch.setattr(journal, "file", FullDisk(disk))
    journal.append_metrics({"loss": 1.0}, 2)
    journal.append_metrics({"loss": 1.0}, 3)
    assert [op["step"] for op in ops(tmp_path)] == [1]
    monkeypatch.undo()
    journal.append_metrics({"loss": 1.0}, 4)
    journal.close()
    assert [op["step"] for op in ops(tmp_path)] == [1, 2, 3, 4]


def test_a_damaged_line_in_the_middle_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append_metrics({"loss": 1.0}, 1)
    journal.file.write(b'{"op": "tags"\n')
    journal.append_metrics({"loss": 1.0}, 2)
    journal.close()
    assert [op.get("values") for op in ops(tmp_path)] == [{"loss": 1.0}, None, {"loss": 1.0}]


@pytest.mark.usefixtures("quick_retries")
def test_all_arrives_once_and_in_order_through_a_server_that_fails_at_times(tmp_path: Path) -> None:
    server = FakeServer(failing=1)
    journal, uploader = start(tmp_path, server)
    for step in range(50):
        journal.append_metrics({"a": step, "b": -step}, step)
        journal.append("tags", tags={}, step=step, values={})
        server.failing += step == 30
    assert uploader.close(30)
    journal.close()
    assert [op["step"] for op in server.received] == [step for step in range(50) for _ in range(2)]
    assert server.points() == [(step, value) for step in range(50) for value in (step, -step)]


@pytest.mark.usefixtures("quick_retries")
def test_a_server_dead_for_good_ends_the_run_and_a_later_one_gets_all(tmp_path: Path) -> None:
    journal, uploader = start(tmp_path, FakeServer(failing=10**9))
    for step in range(5):
        journal.append_metrics({"a": step}, step)
    assert not uploader.close(30)
    journal.close()
    server = FakeServer()
    journal, uploader = start(tmp_path, server)
    assert uploader.close(30)
    journal.close()
    assert [step for step, _ in server.points()] == list(range(5))


@pytest.mark.usefixtures("quick_retries")
def test_what_was_sent_before_a_restart_is_not_sent_again(tmp_path: Path) -> None:
    for number in range(3):
        server = FakeServer()
        journal, uploader = start(tmp_path, server)
        journal.append_metrics({"a": 1.0}, number)
        assert uploader.close(30)
        journal.close()
        assert [step for step, _ in server.points()] == [number]


def test_a_long_journal_is_sent_in_parts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    sizes: list[int] = []
    for step in range(2_000):
        journal.append_metrics({"a": 0.0}, step)
    Uploader(journal, lambda operations, state: sizes.append(len(operations)), uri="fake").send_pending()
    journal.close()
    assert sizes == [900, 900, 200]


def test_a_dead_server_is_named_once_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    journal.append_metrics({"a": 1.0}, 1)
    uploader = Uploader(journal, FakeServer(failing=3).send, uri="fake")
    for _ in range(4):
        uploader.send_pending()
    journal.close()
    assert [record.message.split(": ")[1][:15] for record in caplog.records if record.levelname == "WARNING"] == [
        "nothing is lost"
    ]
    assert not uploader.has_pending()


def test_the_state_survives_as_json(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("tags", tags={})
    Uploader(journal, lambda operations, state: setattr(state, "run_id", "r"), uri="a").send_pending()
    journal.close()
    state = State(uri="a", offset=journal.size(), run_id="r")
    assert json.loads((tmp_path / "journal.state").read_text()) == asdict(state)
    assert read_state(tmp_path) == state
