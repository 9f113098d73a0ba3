from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files_official import edit, prepare, refused, write_snli_ve
from vlx.corpora import Example


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_snli_ve(tmp_path / "official")


def test_official_files_come_out_as_they_went_in(source: Path) -> None:
    corpus = prepare("snli-ve", source)
    assert corpus.splits("snli_ve") == ["dev", "test"]
    expected = Example("4705.jpg#0r2", "Hypothesis 2.", ["4705"], label=2)
    assert corpus.examples("snli_ve", "dev")[2] == expected._asdict()
    assert list(corpus.examples("snli_ve", "dev")["label"]) == [0, 1, 2, -1]  # the last: annotators did not agree


@pytest.mark.parametrize("image", ["4705", 4705, "4705.jpg"])
def test_the_first_edition_names_the_image_otherwise(source: Path, image: Any) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            del row["Flickr30K_ID"]
            row["Flikr30kID"] = image

    edit(source / "snli_ve_dev.jsonl", change)
    assert prepare("snli-ve", source).examples("snli_ve", "dev")[1]["image_ids"] == ["4705"]


def test_unusual_text_is_kept(source: Path) -> None:
    sentence = "שלום 🐕 " + "very " * 5_000 + "\u2028long"
    path = source / "snli_ve_dev.jsonl"
    edit(path, lambda rows: rows[0].update(sentence2=sentence))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert prepare("snli-ve", source).examples("snli_ve", "dev")[0]["text"] == sentence


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(gold_label="maybe"), "gold_label is 'maybe', expected one of contradiction, neutral"),
        (lambda row: row.update(gold_label=["-"]), r"gold_label is \['-'\]"),
        (lambda row: row.pop("gold_label"), "gold_label is None"),
        (lambda row: row.update(pairID="4705.jpg#0r0"), "pairID 4705.jpg#0r0 found twice"),
        (lambda row: row.pop("pairID"), "pairID is None"),
        (lambda row: row.pop("Flickr30K_ID"), "Flickr30K_ID is None"),
        (lambda row: row.update(Flickr30K_ID="5"), "names image 5, absent from flickr30k_images"),
        (lambda row: row.update(sentence2=""), "sentence2 is ''"),
        (lambda row: row.update(sentence2="\ud800"), "sentence2 is "),
    ],
)
def test_a_wrong_line_is_named(source: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(source / "snli_ve_dev.jsonl", lambda rows: change(rows[1]))
    refused("snli-ve", source, f"snli_ve_dev.jsonl:2:? {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found no lines"),
        (b'{"pairID', "1: not JSON"),
        (b"[]\n", "1: found list"),
        (b"\xff\xfe\x00", "1: not JSON"),
    ],
)
def test_a_file_that_is_not_json_lines_is_named(source: Path, content: bytes, message: str) -> None:
    (source / "snli_ve_dev.jsonl").write_bytes(content)
    refused("snli-ve", source, f"snli_ve_dev.jsonl: ?{message}")


def test_missing_files_are_named(source: Path) -> None:
    for path in source.glob("*.jsonl"):
        path.unlink()
    refused("snli-ve", source, "found none of snli_ve_train.jsonl, snli_ve_dev.jsonl, snli_ve_test.jsonl")
