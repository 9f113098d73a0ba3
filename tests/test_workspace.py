"""Which folder a run works in."""

import threading
from pathlib import Path

from vlx.workspace import RESULT_FILE, abandon, locked_folder, options_hash, run_folder, weights_label


def test_an_unfinished_run_is_continued_a_finished_one_is_not(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run", resume=True) as first:
        pass
    with run_folder(tmp_path, "run", resume=True) as resumed:
        assert resumed == first
    (first / RESULT_FILE).write_text("{}")
    with run_folder(tmp_path, "run", resume=True) as second:
        assert second.name == "run-2"
    with run_folder(tmp_path, "run", resume=False) as third:
        assert third.name == "run-3"


def test_an_abandoned_run_is_not_continued(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run", resume=True) as first:
        (first / "training").mkdir()
    abandon(first)
    assert not (first / "training").exists()
    with run_folder(tmp_path, "run", resume=True) as second:
        assert second != first


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    with run_folder(tmp_path, "run", resume=True) as first, run_folder(tmp_path, "run", resume=True) as second:
        assert first != second


def test_a_held_folder_is_waited_for(tmp_path: Path) -> None:
    order = []

    def later() -> None:
        with locked_folder(tmp_path / "teacher"):
            order.append("second")

    with locked_folder(tmp_path / "teacher"):
        thread = threading.Thread(target=later)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_key_changes_with_what_changes_the_result() -> None:
    options = {"lr": 1e-3, "seed": 0, "description": "a", "work_dir": "b"}
    assert options_hash(options) == options_hash(options | {"description": "other", "work_dir": "elsewhere"})
    changed = [options_hash(options | {"lr": 2e-3}), options_hash(options, "data"), options_hash(options | {"seed": 1})]
    assert len({options_hash(options), *changed}) == 4


def test_a_run_is_named_after_the_weights_it_starts_from() -> None:
    assert weights_label("models:/vlx-pretrained-lxmert/1") == "from vlx-pretrained-lxmert/1"
    assert weights_label("outputs/runs/finetune-nlvr2-0123-1/model") == "from finetune-nlvr2-0123-1/model"
