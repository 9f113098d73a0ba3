import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora.files import regions
from tests.corpora.files_oscar import ORDER, SIDES, VQA, WRITERS, features, write_json
from vlx import corpora
from vlx.corpora import Corpus
from vlx.corpora.formats.annotations import oscar, oscar_retrieval
from vlx.errors import CorpusError

SPLITS = {
    "oscar-vqa": {"train", "val", "test"},
    "oscar-gqa": {"train", "val", "submission"},
    "oscar-nlvr2": {"dev"},
    "oscar-retrieval": {"minival", "test", "test_1k"},
}


@pytest.fixture(params=WRITERS)
def any_format(request: pytest.FixtureRequest) -> str:
    return request.param


def prepare(format: str, source: Path, out: str = "corpus") -> Corpus:
    return corpora.prepare(format, source, source.parent / out, dtype="float32")


def made(format: str, tmp_path: Path) -> Path:
    return WRITERS[format](tmp_path / "source")


def refused(format: str, source: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(format, source)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    rows = json.loads(path.read_text())
    change(rows)
    write_json(path, rows)


def change_saved(path: Path, change: Callable[[dict[Any, Any]], Any]) -> None:
    content = dict(torch.load(path, weights_only=True))
    change(content)
    torch.save(content, path)


def test_every_split_is_read_with_its_images(any_format: str, tmp_path: Path) -> None:
    corpus = prepare(any_format, made(any_format, tmp_path))
    task = any_format.split("-")[1]
    assert set(corpus.splits(task)) == SPLITS[any_format]
    named = {
        image
        for split in corpus.splits(task)
        for images in corpus.examples(task, split)["image_ids"]
        for image in images
    }
    assert named == set(corpus.image_ids()) and corpus.detector == "external"


def test_vqa_is_what_the_files_say(tmp_path: Path) -> None:
    corpus = prepare("oscar-vqa", made("oscar-vqa", tmp_path))
    first, third = corpus.examples("vqa", "train")
    assert (first["identifier"], first["text"], first["image_ids"]) == ("1", "What is it?", ["42"])
    assert first["answers"] == ["dog", "cat"] and first["scores"] == pytest.approx([1.0, 0.3])
    assert json.loads(first["extra"]) == {"tags": ["cat dog tree"]}
    assert (third["identifier"], third["answers"], json.loads(third["extra"])) == ("3", ["net"], {"tags": [""]})
    (hidden,) = corpus.examples("vqa", "test")
    assert (hidden["identifier"], hidden["answers"], hidden["scores"]) == ("262144000", [], [])
    found, boxes = corpus.regions("43")  # the second of the training split's file
    assert np.array_equal(found, regions(3)[:, :5]) and np.array_equal(boxes, regions(3)[:, 5:9])


def test_a_label_is_the_place_in_the_pickled_dict(tmp_path: Path) -> None:
    assert prepare("oscar-vqa", made("oscar-vqa", tmp_path)).answers("vqa") == list(ORDER) == ["dog", "net", "cat", ""]


def test_gqa_is_what_the_files_say_and_ids_keep_their_zeros(tmp_path: Path) -> None:
    source = made("oscar-gqa", tmp_path)
    corpus = prepare("oscar-gqa", source)
    (row,) = corpus.examples("gqa", "train")
    assert (row["identifier"], row["image_ids"], row["answers"], row["scores"]) == ("07333408", ["n1"], ["net"], [1.0])
    balanced = prepare("oscar-gqa-bal", source, "balanced")
    assert balanced.splits("gqa") == ["train", "val"]
    assert balanced.examples("gqa", "train")["identifier"][0] == "07333409"
    assert prepare("oscar-gqa-all", source, "all").splits("gqa") == ["train", "submission"]


def test_nlvr2_is_what_the_files_say(tmp_path: Path) -> None:
    rows = list(prepare("oscar-nlvr2", made("oscar-nlvr2", tmp_path)).examples("nlvr2", "dev"))
    assert [row["label"] for row in rows] == [1, 0] and rows[0]["image_ids"] == list(SIDES.values())
    assert [row["group"] for row in rows] == ["nlvr2_dev-7: Two dogs.", "nlvr2_dev-7: One dog."]
    assert json.loads(rows[0]["extra"]) == {"tags": ["dog dog", "dog"]}


def test_captions_tags_and_captions_to_rank_are_what_the_files_say(tmp_path: Path) -> None:
    corpus = prepare("oscar-retrieval", made("oscar-retrieval", tmp_path))
    rows = list(corpus.examples("retrieval", "minival"))
    assert [(row["identifier"], row["text"]) for row in rows] == [
        ("21-0", "A man."), ("21-1", "A dog."), ("5-0", "Two men."), ("5-1", "One dog."),
    ]  # fmt: skip
    assert [row["group"] for row in rows] == ["21", "21", "5", "5"] == [row["image_ids"][0] for row in rows]
    assert json.loads(rows[0]["extra"]) == {"candidates": ["21-1", "5-0"]}
    assert corpus.tags("21") == ["man", "dog"] and corpus.tags("1005") == ["traffic light", "man"]
    assert list(corpus.examples("retrieval", "test")["group"]) == ["1005", "1005", "1021", "1021"]
    assert list(corpus.examples("retrieval", "test_1k")["group"]) == ["1021", "1021"]


def test_tags_are_those_of_vg_before_others_and_may_be_absent(tmp_path: Path) -> None:
    source = made("oscar-retrieval", tmp_path)
    torch.save({1021: "cat", 1005: "cat"}, source / "test_oid_labels.pt")
    assert prepare("oscar-retrieval", source).tags("1021") == ["man", "dog"]
    (source / "test_vg_labels.pt").unlink()
    assert prepare("oscar-retrieval", source, "oid").tags("1021") == ["cat"]
    (source / "test_oid_labels.pt").unlink()
    assert prepare("oscar-retrieval", source, "none").tags("1021") == []


def test_questions_about_the_images_of_other_splits_share_their_regions(tmp_path: Path) -> None:
    source = made("oscar-vqa", tmp_path)
    for part, file in (("train+val2014", "train+val"), ("test-dev2015", "test-dev2015")):
        rows = VQA["train2014"] if "train" in part else VQA["test2015"]
        write_json(source / "2k" / f"{part}_qla_mrcnn.json", rows)
        torch.save(features(row["img_id"] for row in rows), source / "2k" / f"{file}_img_frcnn_feats.pt")
    corpus = prepare("oscar-vqa", source)
    assert corpus.splits("vqa") == ["train", "val", "test", "testdev", "train+val"] and len(corpus.image_ids()) == 4


def test_an_image_of_two_splits_is_refused_as_it_cannot_have_both_regions(tmp_path: Path) -> None:
    source = made("oscar-vqa", tmp_path)
    edit(source / "2k/val2014_qla_mrcnn.json", lambda rows: rows[0].update(img_id=42))
    refused("oscar-vqa", source, "val2014_qla_mrcnn.json: question 1 names image 42, of another split in .*train_img")


def test_without_own_region_files_those_of_the_whole_source_serve(tmp_path: Path) -> None:
    source = made("oscar-vqa", tmp_path)
    for path in source.rglob("*_feats.pt"):
        path.unlink()
    images = [row["img_id"] for rows in VQA.values() for row in rows]
    torch.save(features(images), source / "coco_img_frcnn_feats.pt")
    assert prepare("oscar-vqa", source).num_regions("43") == 3


def test_files_of_the_other_detector_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    source = made("oscar-vqa", tmp_path)
    for part in ("train2014", "val2014"):
        (source / f"2k/{part}_qla_mrcnn.json").rename(source / f"2k/{part}_qla.json")
    (source / "2k/test2015_qla_mrcnn.json").rename(source / "2k/test2014_qla.json")
    assert prepare("oscar-vqa", source).splits("vqa") == ["train", "val", "test"]


TRAIN, VAL, TEST = "2k/train2014_qla_mrcnn.json", "2k/val2014_qla_mrcnn.json", "2k/test2015_qla_mrcnn.json"
GQA_VAL, GQA_TRAIN, NLVR2_DEV = "0.4true/gqa_bal_qla_val.json", "0.4true/gqa_all_qla_train.json", "nlvr2_dev.json"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (TRAIN, {"an": [1, 4]}, r"record 1: an is \[1, 4\], expected numbers below 4"),
        (TRAIN, {"an": [-1, 0]}, "record 1: an is"),
        (TRAIN, {"an": ["dog", 0]}, "record 1: an is"),
        (TRAIN, {"an": None}, "record 1: an is None"),
        (TRAIN, {"an": [True, 0]}, "record 1: an is"),
        (TRAIN, {"an": [1, 1]}, "record 1: scores .* of answers .1, 1."),
        (TRAIN, {"s": [1.0]}, "record 1: scores .1.0. of answers .1, 0."),
        (TRAIN, {"s": [1.5, 0.3]}, "record 1: 'dog' has score 1.5"),
        (TRAIN, {"s": [float("nan"), 0.3]}, "record 1: 'dog' has score nan"),
        (TRAIN, {"s": None}, "record 1: scores None"),
        (TRAIN, {"q": " "}, "record 1: q is ' '"),
        (TRAIN, {"q": "\ud800"}, "record 1: q is"),
        (TRAIN, {"o": ["cat"]}, "record 1: o is"),
        (TRAIN, {"o": 0}, "record 1: o is 0"),
        (TRAIN, {"img_id": None}, "record 1: img_id is None"),
        (TRAIN, {"img_id": 44}, "question 1 names image 44, absent from train_img"),
        (TEST, {"q_id": True}, "record 1: q_id is True"),
        (TEST, {"an": [7], "s": [1.0]}, "record 1: an is .7."),
        (GQA_VAL, {"an": []}, "record 1: scores"),
        (GQA_VAL, {"an": [0, 1]}, "record 1: scores"),
        (GQA_TRAIN, {"an": None}, "record 1: an is None"),
        (NLVR2_DEV, {"label": 2}, "record 1: label is 2, expected 0 or 1"),
        (NLVR2_DEV, {"label": True}, "record 1: label is True"),
        (NLVR2_DEV, {"img_id": {"left": "a"}}, "record 1: img_id: right is None"),
        (NLVR2_DEV, {"img_id": "a"}, "record 1: img_id: found 'a'"),
        (NLVR2_DEV, {"o": "dog"}, "record 1: o: found 'dog'"),
        (NLVR2_DEV, {"img_id": SIDES | {"left": "x-0-0-img0"}}, "record 1 names image x-0-0-img0, absent from nlvr2"),
    ],
)
def test_a_wrong_record_is_named(tmp_path: Path, file: str, change: dict[str, Any], message: str) -> None:
    format = {"2k": "oscar-vqa", "0.4true": "oscar-gqa"}.get(file.split("/")[0], "oscar-nlvr2")
    source = made(format, tmp_path)
    edit(source / file, lambda rows: rows[0].update(change))
    refused(format, source, f"{Path(file).name}: {message}")


@pytest.mark.parametrize(
    ("record", "message"),
    [(VQA["test2015"][0], "q_id 262144000 found twice"), (3, "found int, expected a JSON object")],
)
def test_a_record_too_many_is_named(tmp_path: Path, record: Any, message: str) -> None:
    source = made("oscar-vqa", tmp_path)
    edit(source / TEST, lambda rows: rows.append(record))
    refused("oscar-vqa", source, f"test2015_qla_mrcnn.json: record 2: {message}")


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"q": ', b"\xff\xfe[]", b"[" * 9_999, b'[{"q": 1, "q": 2}]'])
def test_a_file_that_is_not_a_list_is_named(tmp_path: Path, content: bytes) -> None:
    source = made("oscar-vqa", tmp_path)
    (source / TRAIN).write_bytes(content)
    refused("oscar-vqa", source, "train2014_qla_mrcnn.json: (not JSON|found dict, expected a JSON list)")


def test_unusual_but_right_text_is_kept(tmp_path: Path) -> None:
    source, text = made("oscar-vqa", tmp_path), "שלום 🐕 " + "very " * 5_000 + "long?"
    edit(source / TRAIN, lambda rows: rows[0].update(q=text))
    (source / TRAIN).write_bytes(b"\xef\xbb\xbf" + (source / TRAIN).read_bytes())
    assert prepare("oscar-vqa", source).examples("vqa", "train")[0]["text"] == text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ans2label", {**ORDER, "cat": 7}, "label of 'cat' is 0, in its inverse 7"),
        ("ans2label", {"dog": 1}, "label of 'cat' is 0, in its inverse None"),
        ("ans2label", {**ORDER, "zebra": 4}, "label of 'zebra' is None, in its inverse 4"),
        ("ans2label", ["dog"], "ans2label.pkl: list, expected a pickled dict"),
        ("ans2label", {}, "ans2label.pkl: nothing in it"),
        ("label2ans", ORDER, "label2ans.pkl: dict, expected a pickled list"),
        ("label2ans", ["cat", "dog", "", "dog"], "label 3: answer dog found twice"),
        ("label2ans", ["cat", "dog", None, "net"], "label 2: answer is None"),
        ("label2ans", ["cat", "dog", ["net"], "net"], "label 2: answer is"),
    ],
)
def test_answer_tables_that_do_not_fit_are_refused(tmp_path: Path, file: str, content: Any, message: str) -> None:
    source = made("oscar-vqa", tmp_path)
    (source / f"cache/trainval_{file}.pkl").write_bytes(pickle.dumps(content))
    refused("oscar-vqa", source, message)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("file", ["ans2label", "label2ans"])
def test_code_in_a_table_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.chdir(tmp_path)
    source = made("oscar-vqa", tmp_path)
    (source / f"cache/trainval_{file}.pkl").write_bytes(pickle.dumps({"yes": Attack()}))
    refused("oscar-vqa", source, f"trainval_{file}.pkl: not a pickle of plain values .*system is not allowed")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("minival_captions.pt", lambda saved: saved.update({21: "[]"}), "image 21: found .*, expected a list"),
        ("minival_captions.pt", lambda saved: saved.update({21: "A man."}), "image 21: not JSON"),
        ("minival_captions.pt", lambda saved: saved.update({21: ["A man.", 3]}), "image 21: caption is 3"),
        ("minival_captions.pt", lambda saved: saved.update({21: [""]}), "image 21: caption is ''"),
        ("minival_captions.pt", lambda saved: saved.update({"21": ["Twice."]}), "image 21 found twice"),
        ("minival_captions.pt", lambda saved: saved.update({7: ["A zebra."]}), "nothing of image 7, expected"),
        ("minival_captions.pt", lambda saved: saved.clear(), "found nothing in it, expected a torch-saved dict"),
        ("test_captions.pt", lambda saved: saved.pop(1021), "test_img_keys.tsv:2: image '1021' has no captions"),
        ("minival_caption_indexs_top2.pt", lambda saved: saved.update({21: "[[21, 2]]"}), r"\[21, 2\] is no caption"),
        ("minival_caption_indexs_top2.pt", lambda saved: saved.update({21: "[[9, 0]]"}), r"\[9, 0\] is no caption"),
        ("minival_caption_indexs_top2.pt", lambda saved: saved.update({21: "[21, 0]"}), "21 is no caption"),
        ("minival_caption_indexs_top2.pt", lambda saved: saved.pop(5), "nothing of image 5"),
        ("minival_vg_labels.pt", lambda saved: saved.pop(5), "image 5: no tags of it in .*minival_vg_labels.pt"),
        ("minival_vg_labels.pt", lambda saved: saved.update({5: 3}), "image 5: o is 3"),
        ("minival_vg_labels.pt", lambda saved: saved.update({5: [{"name": "a"}]}), "object 1: class is None"),
        ("minival_img_frcnn_feats.pt", lambda saved: saved.pop(5), "names image 5, absent from minival_img"),
        ("minival_img_frcnn_feats.pt", lambda saved: saved.update({5: saved[5][:, :9]}), "last six columns"),
    ],
)  # fmt: skip
def test_wrong_files_of_retrieval_are_named(
    tmp_path: Path, file: str, change: Callable[[dict[Any, Any]], Any], message: str
) -> None:
    source = made("oscar-retrieval", tmp_path)
    change_saved(source / file, change)
    refused("oscar-retrieval", source, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found nothing in it"),
        ("1021\n1021\n", ":2: image 1021 found twice"),
        ("1021\n\x00\n", ":2: image '.x00' has no captions"),
    ],
)
def test_a_wrong_list_of_images_is_named(tmp_path: Path, content: str, message: str) -> None:
    source = made("oscar-retrieval", tmp_path)
    (source / "test_img_keys_1k.tsv").write_text(content)
    refused("oscar-retrieval", source, f"test_img_keys_1k.tsv.*{message}")


GQA = {split: [f"gqa_all_qla_{split}.json", f"gqa_bal_qla_{split}.json"] for split in oscar.GQA_SPLITS}
GQA["val"].reverse()
OFFICIAL_NAMES = {
    "oscar-vqa": oscar.VQA_SPLITS,
    "oscar-gqa": GQA,
    "oscar-nlvr2": oscar.NLVR2_FILES.splits,
    "oscar-retrieval": oscar_retrieval.CAPTIONS.splits,
}


def test_missing_and_doubled_files_are_named(any_format: str, tmp_path: Path) -> None:
    source = made(any_format, tmp_path)
    names = [files[0] for files in OFFICIAL_NAMES[any_format].values()]
    path = next(path for path in source.rglob("*") if path.name in names)
    (source / "copy").mkdir()
    (source / "copy" / path.name).write_bytes(path.read_bytes())
    refused(any_format, source, f"{path.name} is also .*, expected one")
    (source / "empty").mkdir()
    with pytest.raises(CorpusError, match=f"found no .*{names[0]}.* or " if len(names) > 1 else "found no"):
        prepare(any_format, source / "empty")
    if any_format in ("oscar-vqa", "oscar-gqa"):
        (source / "copy" / path.name).unlink()
        next(source.rglob("*ans2label.pkl")).unlink()
        refused(any_format, source, "found no .*_ans2label.pkl. Point source")


def test_features_without_boxes_are_refused_with_what_to_take(tmp_path: Path) -> None:
    source = made("oscar-nlvr2", tmp_path)
    path = source / "nlvr2_img_frcnn_feats.pt"
    path.rename(source / "nlvr2_img_frcnn_obj_feats.pt")
    refused("oscar-nlvr2", source, "features without boxes, expected nlvr2_img_frcnn_feats.pt")
    torch.save(features(SIDES.values()), path)
    assert prepare("oscar-nlvr2", source).num_regions(SIDES["left"]) == 2


@pytest.mark.parametrize("damage", ["sides", "expanded", "deflated", "shape"])
def test_damaged_features_are_named(tmp_path: Path, damage: str) -> None:
    source = made("oscar-nlvr2", tmp_path)
    path, name = source / "nlvr2_img_frcnn_feats.pt", SIDES["left"]
    if damage == "sides":
        change_saved(path, lambda saved: saved.update({name: saved[name] + torch.tensor([0.0] * 9 + [0.2, 0])}))
        refused("oscar-nlvr2", source, f"{name}: its last six columns are not x1 y1 x2 y2 w h")
    elif damage == "expanded":
        change_saved(path, lambda saved: saved.update({name: regions(1).expand(1 << 40, 11)}))
        refused("oscar-nlvr2", source, f"{name}: found .1099511627776, 11. in fewer bytes")
    elif damage == "deflated":
        with (
            zipfile.ZipFile(path) as archive,
            zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as other,
        ):
            for entry in archive.namelist():
                other.writestr(entry, archive.read(entry))
        path.with_suffix(".zip").rename(path)
        refused("oscar-nlvr2", source, "nlvr2_img_frcnn_feats.pt: cut, or holds more than tensors")
    else:
        path.write_bytes(path.read_bytes().replace(b"K\x02K\x0b\x86", b"K\x01K\x0b\x86"))
        refused("oscar-nlvr2", source, "nlvr2_img_frcnn_feats.pt: cut, or holds more than tensors")


@cache
def whole(format: str) -> dict[str, int]:
    """How many regions every image has."""
    with TemporaryDirectory() as folder:
        corpus = prepare(format, WRITERS[format](Path(folder) / "source"))
        return {image: corpus.num_regions(image) for image in corpus.image_ids()}


@given(data=st.data())
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("format", WRITERS)
def test_a_damaged_file_is_refused_or_leaves_every_image_its_regions(format: str, data: st.DataObject) -> None:
    """Any byte of any file, but nothing can check the numbers of the features themselves."""
    with TemporaryDirectory() as folder:
        source = WRITERS[format](Path(folder) / "source")
        path = data.draw(st.sampled_from(sorted(path for path in source.rglob("*") if path.is_file())))
        content = bytearray(path.read_bytes())
        at, cut = data.draw(st.integers(0, len(content) - 1)), data.draw(st.booleans())
        content[at : None if cut else at + 1] = b"" if cut else bytes([data.draw(st.integers(0, 255))])
        path.write_bytes(content)
        try:
            corpus = prepare(format, source)
        except CorpusError as error:
            assert "\n" not in str(error)
        else:
            found = {image: corpus.num_regions(image) for image in corpus.image_ids()}
            assert corpus.region_dim == 5 and found.items() <= whole(format).items()
