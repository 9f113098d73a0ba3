"""Files are written whole or not at all."""

import json
from pathlib import Path

import pytest

from vlx.files import replacing, write_json, write_text


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "first")
    with replacing(path, sync=True) as partial:
        partial.write_text("second")
        assert path.read_text() == "first" and partial.parent == tmp_path
    assert path.read_text() == "second" and list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"a": 1}


def test_folders_and_links_are_replaced_too(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder", sync=True) as partial:
        partial.mkdir()
        (partial / "file").write_text("x")
    assert (tmp_path / "folder" / "file").read_text() == "x"
    for target in ("folder", "elsewhere"):
        with replacing(tmp_path / "link") as partial:
            partial.symlink_to(target)
    assert (tmp_path / "link").readlink() == Path("elsewhere")
