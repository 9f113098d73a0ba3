import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files import nlvr2_rows, write_lines
from tests.corpora.files_official import prepare, refused, write_json
from tests.corpora.files_vilbert import CLASSES, features_of, write_datapoints, write_npz, write_pickle
from vlx.corpora import Corpus, Example
from vlx.corpora.formats.annotations import vilbert
from vlx.errors import CorpusError

ANSWERS = ["yes", "no", "2", "brown"]
TARGET = "cache/{}_target.pkl"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vilbert, "MINIVAL_SIZE", 2)
    monkeypatch.setattr(vilbert, "GENOME_VAL", 2)


def write_table(source: Path) -> Path:
    write_pickle(source / "cache" / "trainval_label2ans.pkl", ANSWERS)
    write_pickle(source / "cache" / "trainval_ans2label.pkl", {answer: label for label, answer in enumerate(ANSWERS)})
    return source


def asked(first: int, count: int) -> list[dict[str, Any]]:
    """Newest first; the first question of each ten is about the image of their number."""
    numbers = reversed(range(first, first + count))
    return [{"question_id": number, "image_id": number // 10, "question": f"Which {number}?"} for number in numbers]


def targets(questions: list[dict[str, Any]], *, whole: bool) -> list[dict[str, Any]]:
    kept = ("question_id", "image_id", "question") if whole else ("question_id", "image_id")
    found = [{key: one[key] for key in kept} | {"labels": [3, 0], "scores": [0.9, 0.3]} for one in questions]
    found[0] |= {"labels": [], "scores": []}
    return found[::-1]


def write_vqa(source: Path) -> Path:
    """Questions 10..14 to train, 20..23 to validate, 30 to test; images 1, 2 and 3."""
    for year, split, questions in (
        ("2014", "train", asked(10, 5)),
        ("2014", "val", asked(20, 4)),
        ("2015", "test", asked(30, 1)),
    ):
        write_json(source / f"v2_OpenEnded_mscoco_{split}{year}_questions.json", {"questions": questions, "info": {}})
        if split != "test":
            write_pickle(source / TARGET.format(split), targets(questions, whole=False))
    write_npz(source, "1", "2", "3")
    return write_table(source)


def write_items(source: Path) -> Path:
    """GQA's and Visual Genome's: questions 10..15, in themselves."""
    write_pickle(source / TARGET.format("trainval"), targets(asked(10, 6), whole=True))
    write_npz(source, "1")
    return write_table(source)


def write_retrieval(source: Path, names: Callable[[int], dict[str, Any]]) -> Path:
    """Images 11 and 12 to train, 13 to test; image N has N - 10 captions."""
    for fold, images in (("train", (11, 12)), ("test_set0", (13,))):
        rows = [names(image) | {"sentences": [f"Dog {image} {n}." for n in range(image - 10)]} for image in images]
        write_lines(source / f"all_data_final_{fold}_2014.jsonline", rows)
    write_npz(source, "11", "12", "13")
    return source


def ids(corpus: Corpus, task: str, split: str) -> list[str]:
    return list(corpus.examples(task, split)["identifier"])


def change_pickle(path: Path, change: Callable[[Any], Any]) -> None:
    content = pickle.loads(path.read_bytes())
    change(content)
    write_pickle(path, content)


def test_vqa_comes_in_the_originals_splits(tmp_path: Path) -> None:
    corpus = prepare("vilbert-vqa", write_vqa(tmp_path / "official"))
    assert corpus.splits("vqa") == ["trainval", "minival", "test"] and corpus.answers("vqa") == ANSWERS
    assert ids(corpus, "vqa", "trainval") == ["10", "11", "12", "13", "14", "20", "21"], "by question id, the end apart"
    assert ids(corpus, "vqa", "minival") == ["22", "23"]
    row = corpus.examples("vqa", "trainval")[1]
    scores = row.pop("scores")
    assert row | {"scores": []} == Example("11", "Which 11?", ["1"], ["brown", "yes"])._asdict()
    assert np.allclose(scores, [0.9, 0.3])
    assert corpus.examples("vqa", "minival")[1]["answers"] == [], "a question may have no answer of the vocabulary"
    assert corpus.examples("vqa", "test")[0] == Example("30", "Which 30?", ["3"])._asdict()
    noted = {entry["name"] for entry in corpus.manifest["source"]}
    assert {"cache/train_target.pkl", "cache/trainval_label2ans.pkl", "regions"} <= noted


def test_training_questions_about_images_of_other_tests_are_apart(tmp_path: Path) -> None:
    source = write_vqa(tmp_path / "official")
    np.save(source / "cache" / "coco_test_ids.npy", np.array([2, 3]))
    corpus = prepare("vilbert-vqa", source)
    assert ids(corpus, "vqa", "trainval") == ["10", "11", "12", "13", "14"]
    assert ids(corpus, "vqa", "mteval") == ["20", "21"] and ids(corpus, "vqa", "minival") == ["22", "23"]


@pytest.mark.parametrize(("task", "splits"), [("gqa", ("trainval", "minival")), ("genome_qa", ("train", "val"))])
def test_gqa_and_visual_genome_hold_their_questions_in_the_targets(
    tmp_path: Path, task: str, splits: tuple[str, str]
) -> None:
    source = write_items(tmp_path / "official")
    if task == "gqa":
        question = {"question": "Is it red?", "imageId": "1", "answer": "no", "types": {"structural": "verify"}}
        write_json(source / "testdev_balanced_questions.json", {"05": question})
    corpus = prepare({"gqa": "vilbert-gqa", "genome_qa": "vilbert-visual-genome-qa"}[task], source)
    assert corpus.splits(task) == [*splits, *(["testdev"] if task == "gqa" else [])]
    assert [ids(corpus, task, split) for split in splits] == [["10", "11", "12", "13"], ["14", "15"]]
    assert corpus.examples(task, splits[0])[0]["text"] == "Which 10?" and corpus.answers(task) == ANSWERS
    if task == "gqa":
        row = corpus.examples("gqa", "testdev")[0]
        assert (row["identifier"], row["answers"], row["category"]) == ("05", ["no"], "verify")


def test_text_ids_are_in_the_order_of_text_as_the_original_sorts_them(tmp_path: Path) -> None:
    source = write_items(tmp_path / "official")
    renamed = {"10": "9", "11": "100", "12": "20"}

    def change(items: list[dict[str, Any]]) -> None:
        for item in items:
            item["question_id"] = renamed.get(str(item["question_id"]), str(item["question_id"]))

    change_pickle(source / TARGET.format("trainval"), change)
    corpus = prepare("vilbert-gqa", source)
    assert ids(corpus, "gqa", "trainval") + ids(corpus, "gqa", "minival") == ["100", "13", "14", "15", "20", "9"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item.update(labels=[4, 0]), r"items 2: labels \[4, 0\], expected some of 0..3"),
        (lambda item: item.update(labels=[-1, 0]), r"items 2: labels \[-1, 0\]"),
        (lambda item: item.update(labels=["a", "b"]), "items 2: labels .'a', 'b'."),
        (lambda item: item.update(labels=[1]), "items 2: labels and scores are not lists of one length"),
        (lambda item: item.pop("scores"), "items 2: labels and scores are not lists"),
        (lambda item: item.update(scores=[2, 0]), "items 2: 'brown' has score 2"),
        (lambda item: item.update(scores=[float("nan"), 0]), "items 2: 'brown' has score nan"),
        (lambda item: item.update(question_id=10), "items 2: question_id 10 found twice"),
        (lambda item: item.update(question_id=None), "items 2: question_id is None"),
        (lambda item: item.update(question_id="11"), "some question ids are numbers and some text"),
        (lambda item: item.update(image_id=5), "minival 15|trainval 11 names image 5, absent from regions"),
        (lambda item: item.pop("image_id"), "items 2: image_id is None"),
        (lambda item: item.update(question=""), "items 2: question is ''"),
        (lambda item: item.update(question="\ud800"), "items 2: question is "),
    ],
)
def test_a_wrong_target_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    source = write_items(tmp_path / "official")
    change_pickle(source / TARGET.format("trainval"), lambda items: change(items[1]))
    refused("vilbert-gqa", source, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items[1].update(image_id=3), "items 2: no question 11 about image 3. Take both"),
        (lambda items: items[1].update(question_id=99), "items 2: no question 99 about image 1"),
        (lambda items: items.pop(), "train_target.pkl: no targets of question 14"),
        (lambda items: items.clear(), r"train_target.pkl: items is \[\], expected a list"),
    ],
)
def test_targets_and_questions_must_fit(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    source = write_vqa(tmp_path / "official")
    change_pickle(source / TARGET.format("train"), change)
    refused("vilbert-vqa", source, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trainval_label2ans.pkl", ["yes", "yes"], "label 1: answer yes found twice"),
        ("trainval_label2ans.pkl", {"yes": 0}, "expected a list, and a dict as its inverse"),
        ("trainval_ans2label.pkl", ["yes"], "expected a list, and a dict as its inverse"),
        ("trainval_ans2label.pkl", {answer: 0 for answer in ANSWERS}, "label of 'no' is 1, in its inverse 0"),
        ("trainval_ans2label.pkl", {"yes": 0}, "label of 'no' is 1, in its inverse None"),
    ],
)
def test_a_wrong_vocabulary_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    source = write_vqa(tmp_path / "official")
    write_pickle(source / "cache" / name, content)
    refused("vilbert-vqa", source, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 2)), "expected an array of image ids"),
        (np.array([None]), "not numpy's arrays"),
        (b"hello", "not numpy"),
    ],
)
def test_wrong_lists_of_images_are_named(tmp_path: Path, content: Any, message: str) -> None:
    source = write_vqa(tmp_path / "official")
    path = source / "cache" / "coco_test_ids.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    refused("vilbert-vqa", source, f"coco_test_ids.npy: {message}")


def test_missing_files_are_named(tmp_path: Path) -> None:
    source = write_vqa(tmp_path / "official")
    (source / TARGET.format("val")).unlink()
    refused("vilbert-vqa", source, "found no cache/val_target.pkl")
    (source / "cache" / "trainval_label2ans.pkl").unlink()
    refused("vilbert-vqa", source, "found no cache/trainval_label2ans.pkl")
    for path in source.glob("v2_*"):
        path.unlink()
    refused("vilbert-vqa", source, "found none of v2_OpenEnded_mscoco_train2014_questions.json, ")


COCO_NAME = {"img_path": "train2014/COCO_train2014_{:012d}.jpg"}


@pytest.mark.parametrize("name", [{"id": 0}, {"img_path": "{}.jpg", "id": 3}, COCO_NAME])
def test_captions_of_coco_and_flickr_are_named_by_their_image(tmp_path: Path, name: dict[str, Any]) -> None:
    def names(image: int) -> dict[str, Any]:
        return {"id": image} if name == {"id": 0} else name | {"img_path": name["img_path"].format(image)}

    corpus = prepare("vilbert-retrieval", write_retrieval(tmp_path / "official", names))
    assert corpus.splits("retrieval") == ["train", "test"]
    assert ids(corpus, "retrieval", "train") == ["11#0", "12#0", "12#1"]
    assert corpus.examples("retrieval", "test")[2] == Example("13#2", "Dog 13 2.", ["13"], group="13")._asdict()


@pytest.mark.parametrize("clean", [False, True])
def test_a_training_image_knows_those_that_look_alike(tmp_path: Path, clean: bool) -> None:
    source = write_retrieval(tmp_path / "official", lambda image: {"id": image})
    pools = {"": [[0, 1], [1, 0]], "_cleaned": [[0, 1, 1], [1, 1, 0]]}
    for name, pool in pools.items():
        content = {"train_image_list": [11, 12], "train_hard_pool": np.array(pool, float)}
        write_pickle(source / f"hard_negative{name}.pkl", content)
    if clean:
        (source / "cache").mkdir()
        np.save(source / "cache" / "flickr_test_ids.npy", np.array([99]))
    rows = prepare("vilbert-retrieval", source).examples("retrieval", "train")
    near = [["12", "12"], ["12", "11"]] if clean else [["12"], ["11"]]
    assert [json.loads(extra)["hard_negatives"] for extra in rows["extra"]] == [near[0], near[1], near[1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected train_image_list"),
        ({"train_image_list": [11], "train_hard_pool": np.zeros((2, 2))}, "expected train_image_list"),
        ({"train_image_list": [11, 12], "train_hard_pool": np.full((2, 2), 2.0)}, "rows beyond its 2 images"),
        ({"train_image_list": [11, 12], "train_hard_pool": np.full((2, 2), np.nan)}, "rows beyond its 2 images"),
    ],
)
def test_wrong_hard_negatives_are_named(tmp_path: Path, content: Any, message: str) -> None:
    source = write_retrieval(tmp_path / "official", lambda image: {"id": image})
    write_pickle(source / "hard_negative.pkl", content)
    refused("vilbert-retrieval", source, f"hard_negative.pkl: .*{message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": []}, r"sentences is \[\]"),
        ({"sentences": [3]}, "sentence is 3"),
        ({"sentences": [""]}, "sentence is ''"),
        ({"id": None}, "id is None"),
        ({"img_path": 3}, "img_path is 3"),
        ({"id": 11}, "image 11 found twice"),
        ({"id": 99}, "train 99#0 names image 99, absent from regions"),
    ],
)
def test_a_wrong_line_of_captions_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    source = write_retrieval(tmp_path / "official", lambda image: {"id": image})
    path = source / "all_data_final_train_2014.jsonline"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [rows[0], rows[1] | change])
    refused("vilbert-retrieval", source, message)


def test_nlvr2_is_read_as_published_but_its_test_is_named_otherwise(tmp_path: Path) -> None:
    source = tmp_path / "official"
    write_lines(source / "test.json", nlvr2_rows("test1", 1))
    write_npz(source, *(f"test1-0-{pair}-img{side}" for pair in (0, 1) for side in (0, 1)))
    row = prepare("vilbert-nlvr2", source).examples("nlvr2", "test")[1]
    assert row["image_ids"] == ["test1-0-1-img0", "test1-0-1-img1"] and row["label"] == 0


def test_snli_ve_trains_without_images_of_other_tests(tmp_path: Path) -> None:
    source = tmp_path / "official"
    (source / "cache").mkdir(parents=True)
    rows = [
        {
            "Flikr30kID": f"{image}.jpg",
            "pairID": f"{image}.jpg#0r1{label[0]}",
            "gold_label": label,
            "sentence2": "A dog.",
        }
        for image, label in ((4, "entailment"), (5, "neutral"))
    ]
    write_lines(source / "snli_ve_train.jsonl", rows)
    np.save(source / "cache" / "flickr_test_ids.npy", np.array([5]))
    write_npz(source, "4", "5")
    corpus = prepare("vilbert-snli-ve", source)
    assert [corpus.examples("snli_ve", split)["label"][0] for split in ("train", "mteval")] == [2, 1]


def test_conceptual_captions_are_written_with_their_regions(tmp_path: Path) -> None:
    source = tmp_path / "official"
    write_datapoints(source / "training_feat_part_0.lmdb", {31: "a dog", 30: "a cat"})
    write_datapoints(source / "training_feat_part_1.lmdb", {29: "a cow"})
    write_datapoints(source / "validation_feat_all.lmdb", {28: "a pig"})
    corpus = prepare("vilbert-captions", source)
    assert corpus.splits("captions") == ["train", "val"] and ids(corpus, "captions", "train") == ["31", "30", "29"]
    assert corpus.examples("captions", "val")[0] == Example("28", "a pig", ["28"], group="28")._asdict()
    assert corpus.fields("29")["class_probs"].shape == (3, CLASSES) and corpus.detector == "external"
    assert np.array_equal(corpus.regions("30")[0], features_of(3).astype(np.float16))


def test_captions_by_image_serve_regions_of_any_kind(tmp_path: Path) -> None:
    source = tmp_path / "official"
    write_json(source / "caption_train.json", {"b": "a cat", "a": "a dog"})
    write_npz(source, "a", "b")
    corpus = prepare("vilbert-captions", source)
    assert corpus.examples("captions", "train")[0] == Example("b", "a cat", ["b"], group="b")._asdict()
    write_json(source / "caption_train.json", {"b": "a cat", "a": ""})
    (source.parent / "corpus").rename(source / "kept")
    refused("vilbert-captions", source, "caption_train.json: a is ''")


def test_a_caption_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_datapoints(tmp_path / "official" / "training_feat_all.lmdb", {31: ""})
    refused("vilbert-captions", tmp_path / "official", "training_feat_all.lmdb: item 00000000: caption is ''")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_wrong_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    source = write_items(tmp_path_factory.mktemp("gqa") / "official")
    values = (
        st.none()
        | st.integers(-3, 20)
        | st.text(max_size=3)
        | st.floats()
        | st.lists(st.integers(0, 3) | st.floats(0, 1))
    )

    def change(items: list[dict[str, Any]]) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            item = data.draw(st.sampled_from(items))
            item[data.draw(st.sampled_from(sorted(item)))] = data.draw(values)

    change_pickle(source / TARGET.format("trainval"), change)
    try:
        corpus = prepare("vilbert-gqa", source)
    except CorpusError as error:
        assert "\n" not in str(error)
        return
    rows = [row for split in corpus.splits("gqa") for row in corpus.examples("gqa", split)]
    assert len({row["identifier"] for row in rows}) == len(rows) == 6
    for row in rows:
        assert row["image_ids"] == ["1"] and row["text"].strip() and set(row["answers"]) <= set(ANSWERS)
        assert len(row["scores"]) == len(row["answers"]) and all(0 <= score <= 1 for score in row["scores"])
