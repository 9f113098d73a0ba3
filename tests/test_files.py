"""A file, a folder or a link is replaced as a whole or left untouched."""

import json
import os
from pathlib import Path

import pytest

from vlx.files import replacing, write_json


def test_a_failed_write_leaves_the_old_content_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"step": 1})
    with pytest.raises(TypeError):
        write_json(path, {"step": object()})
    with pytest.raises(ValueError), replacing(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert json.loads(path.read_text()) == {"step": 1} and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("fsync", [False, True])
def test_a_folder_appears_when_it_is_complete(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "checkpoint"
    with replacing(path, fsync=fsync) as partial:
        (partial / "deeper").mkdir(parents=True)
        (partial / "deeper" / "weights").write_text("1")
        assert not path.exists()
    assert (path / "deeper" / "weights").read_text() == "1" and os.listdir(tmp_path) == ["checkpoint"]


def test_a_partial_folder_of_a_killed_process_with_the_same_id_is_removed(tmp_path: Path) -> None:
    (tmp_path / f".a.{os.getpid()}" / "left").mkdir(parents=True)
    with replacing(tmp_path / "a") as partial:
        partial.mkdir()
    assert os.listdir(tmp_path / "a") == []


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "old")
    with replacing(link) as partial:
        partial.symlink_to(tmp_path / "new")
    assert link.resolve() == tmp_path / "new" and (tmp_path / "old").is_dir()
