"""Which folder a run works in."""

import threading
from pathlib import Path

from vlx.workspace import RESULT, claim, hold, key, origin


def test_an_unfinished_run_is_continued_a_finished_one_is_not(tmp_path: Path) -> None:
    with claim(tmp_path, "run", resume=True) as first:
        pass
    with claim(tmp_path, "run", resume=True) as again:
        assert again == first
    (first / RESULT).write_text("{}")
    with claim(tmp_path, "run", resume=True) as second:
        assert second.name == "run-2"
    with claim(tmp_path, "run", resume=False) as third:
        assert third.name == "run-3"


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    with claim(tmp_path, "run", resume=True) as one, claim(tmp_path, "run", resume=True) as two:
        assert one != two


def test_a_held_folder_is_waited_for(tmp_path: Path) -> None:
    order = []

    def later() -> None:
        with hold(tmp_path / "teacher"):
            order.append("second")

    with hold(tmp_path / "teacher"):
        thread = threading.Thread(target=later)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_key_changes_with_what_changes_the_result() -> None:
    options = {"lr": 1e-3, "seed": 0, "description": "a", "work_dir": "b"}
    assert key(options) == key(options | {"description": "other", "work_dir": "elsewhere"})
    assert len({key(options), key(options | {"lr": 2e-3}), key(options, "data"), key(options | {"seed": 1})}) == 4


def test_a_run_is_named_after_the_weights_it_starts_from() -> None:
    assert origin("models:/vlx-pretrained-lxmert/1") == "from vlx-pretrained-lxmert/1"
    assert origin("outputs/runs/finetune-nlvr2-0123-1/model") == "from finetune-nlvr2-0123-1/model"
