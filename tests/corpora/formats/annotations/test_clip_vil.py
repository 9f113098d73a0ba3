import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files_official import NO_JSON, edit, prepare, refused, write_clip_vil, write_json, write_pictures

SIZES = "width_heigths.json"
COCO = "COCO_train2014_000000000042"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_clip_vil(tmp_path / "data")


def test_sentences_come_with_their_images_whichever_have_the_same_number(source: Path) -> None:
    corpus = prepare("clip-vil-pretrain", source)
    assert corpus.manifest["examples"] == {"pretrain": {"mscoco_train": 2, "vgnococo": 1}}
    assert corpus.examples("pretrain", "mscoco_train")[1]["answers"] == ["yes"] and corpus.answers("pretrain") == [
        "yes"
    ]
    assert (corpus.image_size(COCO), corpus.image_size("42")) == ((10, 10), (11, 10)) and corpus.region_dim == 0


def test_images_that_cannot_be_read_are_left_out_as_listed_and_this_is_said(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="vlx"):
        corpus = prepare("clip-vil-pretrain", source)
    assert corpus.image_ids() == [COCO, "42"]
    assert "width_heigths.json lists 2 of 3 images; all others are left out" in caplog.messages


def test_without_the_list_a_missing_image_is_an_error(source: Path) -> None:
    (source / "mscoco" / SIZES).unlink()
    refused("clip-vil-pretrain", source, "vgnococo.json: record 2 names image 43, absent from train2014, VG_100K")


def test_questions_are_lxmerts(source: Path) -> None:
    corpus = prepare("clip-vil-vqa", source)
    row = corpus.examples("vqa", "train")[0]
    assert (row["text"], row["image_ids"], row["answers"]) == ("Is it red?", [COCO], ["yes"])
    assert corpus.answers("vqa") == ["yes", "no"] and corpus.image_ids() == [COCO]
    named = {entry["name"] for entry in corpus.manifest["source"]}
    assert named == {"vqa/train.json", "vqa/trainval_label2ans.json", "mscoco/train2014"}, "it reads what it need not"


def test_gqas_images_are_in_a_folder_of_their_own(source: Path) -> None:
    write_json(
        source / "gqa" / "train.json", [{"question_id": "07", "img_id": "42", "sent": "?", "label": {"no": 1.0}}]
    )
    write_json(source / "gqa" / "trainval_label2ans.json", ["yes", "no"])
    write_pictures(source / "gqa_raw_images" / "images", "0.jpg", "1.jpg", "42.jpg")
    corpus = prepare("clip-vil-gqa", source)
    assert corpus.examples("gqa", "train")[0]["identifier"] == "07" and corpus.image_size("42") == (12, 10)


def test_images_may_lie_anywhere(source: Path) -> None:
    (source / "mscoco").rename(source / "elsewhere")
    (source / "elsewhere" / "train2014" / f"{COCO}.png").rename(source / f"{COCO}.png")
    assert prepare("clip-vil-vqa", source).image_ids() == [COCO]


def test_region_files_are_not_read(source: Path) -> None:
    write_json(source / "mscoco_imgfeat" / "train2014_obj36.tsv", "not read")
    assert prepare("clip-vil-vqa", source).region_dim == 0


@pytest.mark.parametrize(("content", "message"), NO_JSON[:-3])
def test_a_list_that_is_not_json_is_named(source: Path, content: bytes, message: str) -> None:
    (source / "mscoco" / SIZES).write_bytes(content)
    refused("clip-vil-pretrain", source, message.format(SIZES))


@pytest.mark.parametrize("size", [[10], [0, 10], ["10", 10], 10, None, [10.5, 3]])
def test_a_wrong_size_is_named(source: Path, size: Any) -> None:
    edit(source / "mscoco" / SIZES, lambda sizes: sizes.update({"a/b.jpg": size}))
    refused("clip-vil-pretrain", source, r"width_heigths.json: 'a/b.jpg': found .*, expected \[height, width\]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(sent=""), "train.json: record 1: sent is ''"),
        (lambda rows: rows[0].update(img_id="COCO_train2014_000000000043"), "train 1 names image COCO_train2014_0"),
    ],
)
def test_a_wrong_question_is_named(source: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    edit(source / "vqa" / "train.json", change)
    refused("clip-vil-vqa", source, message)
