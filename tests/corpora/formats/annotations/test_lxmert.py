import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora.files_lxmert import ANSWERS, NAMES, write_json, write_lxmert
from vlx import corpora
from vlx.corpora import Example
from vlx.corpora.formats.annotations.lxmert import convert_answer
from vlx.errors import CorpusError

FORMATS = ("lxmert-vqa", "lxmert-gqa", "lxmert-nlvr2", "lxmert-pretrain")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lxmert(tmp_path / "data")


def prepare(source: Path, format: str) -> corpora.Corpus:
    return corpora.prepare(format, source, source.parent / "corpus")


def refused(source: Path, format: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(source, format)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in source.parent.iterdir()) == ["data"]


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file in place, or to what is returned."""
    content = json.loads(path.read_text())
    changed = change(content)
    write_json(path, content if changed is None else changed)


def damage(record: int, **changes: Any) -> Callable[[Any], Any]:
    return lambda content: content[record].update(changes)


def rows(corpus: corpora.Corpus, task: str, split: str) -> list[Example]:
    return [Example(**row) for row in corpus.examples(task, split)]


def test_vqa_questions_keep_their_soft_labels_and_types(source: Path) -> None:
    corpus = prepare(source, "lxmert-vqa")
    first, second = rows(corpus, "vqa", "train")
    assert corpus.splits("vqa") == ["train", "minival", "test"] and corpus.answers("vqa") == ANSWERS
    assert (first.identifier, first.text, first.image_ids) == ("1", "Is it a dog?", [NAMES[0]])
    assert first.answers == ["yes", "no"] and first.scores == pytest.approx([1, 0.3])
    assert first.category == "yes/no" and json.loads(first.extra)["question_type"] == "is it"
    assert second.answers == [] and rows(corpus, "vqa", "test")[0].answers == []
    assert rows(corpus, "vqa", "minival")[0].text == "Wo? 🐕" and corpus.num_regions(NAMES[1]) == 3


def test_gqa_ids_keep_their_leading_zeros(source: Path) -> None:
    corpus = prepare(source, "lxmert-gqa")
    assert rows(corpus, "gqa", "train")[0] == Example("010", "Is it?", ["10"], ["yes"], [1.0])
    assert corpus.image_ids() == ["10", "11"]


def test_nlvr2_pairs_have_the_groups_of_the_official_files(source: Path) -> None:
    found = rows(prepare(source, "lxmert-nlvr2"), "nlvr2", "valid")
    assert found[1] == Example("dev-5-1-0", "A cat.", ["dev-5-1-img0", "dev-5-1-img1"], label=1, group="dev-5--0")
    assert found[0].group == found[1].group


def test_pretraining_sentences_are_flattened_and_their_answers_converted(source: Path) -> None:
    corpus = prepare(source, "lxmert-pretrain")
    caption, question, pruned = rows(corpus, "pretrain", "mscoco_train")
    assert corpus.answers("pretrain") == ["2", "man", "yes"]
    assert caption == Example(f"{NAMES[0]}_mscoco_000", "A dog.", [NAMES[0]], category="mscoco")
    assert question.answers == ["2"] and question.scores == pytest.approx([0.9]) and question.category == "vqa"
    assert (pruned.identifier, pruned.answers) == (f"{NAMES[0]}_vqa_001", [])
    assert json.loads(pruned.extra) == json.loads(question.extra) == {"labeled": True} and caption.extra == ""
    (other,) = rows(corpus, "pretrain", "vgnococo")
    assert other.answers == ["man"] and other.scores == [1.0]


@pytest.mark.parametrize(
    ("sets", "answers", "kept"),
    [("vqa", ["2", "yes"], []), ("visual7w", ["man"], ["man"]), ("gqa-visual7w", ["2", "man"], ["man"])],
)
def test_answers_of_chosen_sets_are_numbered_anew(source: Path, sets: str, answers: list[str], kept: list[str]) -> None:
    corpus = prepare(source, f"lxmert-pretrain-{sets}")
    assert corpus.answers("pretrain") == answers
    assert rows(corpus, "pretrain", "vgnococo")[0].answers == kept


def test_a_number_of_coco_is_not_one_of_visual_genome(source: Path) -> None:
    """10, 11 and 12 of Visual Genome have other regions than the images of COCO with these numbers."""
    edit(source / "lxmert/mscoco_train.json", damage(0, img_id=NAMES[2]))
    corpus = prepare(source, "lxmert-pretrain+lxmert-vqa+lxmert-gqa")
    assert [corpus.num_regions(name) for name in (*NAMES, "10", "11")] == [2, 3, 1, 4, 1]


def test_regions_are_sought_anywhere_without_the_original_folders(source: Path) -> None:
    for name in ("mscoco_imgfeat", "nlvr2_imgfeat"):
        (source / name).rename(source / name.replace("imgfeat", "own"))
    assert prepare(source, "lxmert-nlvr2").num_regions("dev-5-0-img0") == 2


def test_the_files_may_lie_in_the_source_itself(source: Path) -> None:
    (source / "mscoco_imgfeat").rename(source / "vqa/features")
    assert corpora.prepare("lxmert-vqa", source / "vqa", source / "corpus").splits("vqa") == [
        "train",
        "minival",
        "test",
    ]


@pytest.mark.parametrize(
    ("given", "converted"),
    [
        *[("", ""), (".", ""), ("Yes.", "yes"), ("yes..", "yes."), ("The Dog.", "dog"), ("a the cat", "cat")],
        *[("an a dog", "a dog"), ("a an the dog", "dog"), ("A man", "man"), ("the woman", "woman"), ("ONE", "1")],
        *[("ten.", "10"), ("eleven", "eleven"), ("Grey", "gray"), ("the", "the"), ("theatre", "theatre")],
        *[("the  bus ", "bus"), ("no ", "no ")],
    ],
)
def test_answers_are_converted_in_the_order_of_the_original(given: str, converted: str) -> None:
    assert convert_answer(given) == converted


TABLE = "vqa/trainval_label2ans"
INVERSE = "vqa/trainval_ans2label"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("vqa/train", damage(1, question_id=1), "train.json: record 2: question_id 1 found twice"),
        ("vqa/train", damage(1, question_id="1"), "train.json: record 2: question_id 1 found twice"),
        ("vqa/train", damage(1, question_id=1.5), "record 2: question_id is 1.5, expected a whole number or text"),
        ("vqa/train", damage(1, question_id=True), "record 2: question_id is True"),
        ("vqa/train", damage(1, question_id=-1), "record 2: question_id is -1"),
        ("vqa/train", damage(1, sent=""), "record 2: sent is '', expected text"),
        ("vqa/train", damage(1, sent=None), "record 2: sent is None"),
        ("vqa/train", damage(1, img_id="zebra"), "train 2 names image zebra, absent from train2014_obj36.tsv, val2014"),
        ("vqa/train", damage(1, img_id=None), "record 2: img_id is None"),
        ("vqa/train", damage(1, label=["yes"]), r"record 2: label is \['yes'\], expected an object, answer: score"),
        ("vqa/train", damage(1, label={"yes": 1.5}), "record 2: 'yes' has score 1.5, expected one in 0..1"),
        ("vqa/train", damage(1, label={"yes": float("nan")}), "record 2: 'yes' has score nan"),
        ("vqa/train", damage(1, label={"yes": True}), "record 2: 'yes' has score True"),
        ("vqa/train", damage(1, label={"\ud800": 1}), "record 2: .* has score 1"),
        ("vqa/train", damage(1, answer_type=3), "record 2: answer_type is 3"),
        ("vqa/train", lambda content: content[1].pop("label") or None, "record 2: label is None"),
        ("vqa/train", lambda content: [*content, 3], "train.json: record 3: found int, expected a JSON object"),
        ("vqa/train", lambda _: [], "train.json: found nothing in it, expected a JSON list"),
        ("vqa/train", lambda _: {"questions": []}, "train.json: found dict, expected a JSON list"),
        (TABLE, lambda content: [*content, "yes"], "label2ans.json: label 4: answer yes found twice"),
        (TABLE, lambda content: [*content, 3], "label2ans.json: label 4: answer is 3, expected text"),
        (TABLE, lambda content: content[::-1], "label2ans.json: label of '2' is 0, in its inverse 3"),
        (TABLE, lambda _: [], "label2ans.json: found nothing in it"),
        (INVERSE, lambda content: content | {"no": 9}, "label2ans.json: label of 'no' is 2, in its inverse 9"),
        (INVERSE, lambda content: content | {"maybe": 4}, "label of 'maybe' is None, in its inverse 4"),
        (INVERSE, lambda _: ["yes"], "ans2label.json: found list, expected a JSON dict"),
        ("gqa/train", damage(1, question_id="010"), "record 2: question_id 010 found twice"),
        ("gqa/train", damage(1, img_id="13"), "train 011 names image 13, absent from vg_gqa_obj36.tsv"),
        ("nlvr2/valid", damage(1, identifier="dev-5-1"), "record 2: identifier is 'dev-5-1', expected <split>"),
        ("nlvr2/valid", damage(1, identifier="dev-5-0-0"), "record 2: identifier dev-5-0-0 found twice"),
        ("nlvr2/valid", damage(1, img1=None), "record 2: img1 is None, expected text"),
        ("nlvr2/valid", damage(1, img1="dev-9-9-img1"), "valid dev-5-1-0 names image dev-9-9-img1, absent from valid"),
        ("nlvr2/valid", damage(1, label=2), "record 2: label is 2, expected 0 or 1"),
        ("nlvr2/valid", damage(1, label="True"), "record 2: label is 'True', expected 0 or 1"),
        ("lxmert/mscoco_train", damage(0, sentf=["A dog."]), "record 1: sentf and labelf are not objects"),
        ("lxmert/mscoco_train", damage(0, sentf={"vqa": "A dog."}), "record 1: vqa is not a list of sentences"),
        ("lxmert/mscoco_train", damage(0, sentf={"vqa": ["A dog."]}), "record 1: vqa is not a list of sentences"),
        ("lxmert/mscoco_train", damage(0, labelf={"gqa": []}), "record 1: sentf and labelf are not objects"),
        ("lxmert/mscoco_train", damage(0, labelf={"vqa": [{}, 1]}), "record 1: vqa 1: label is 1"),
        ("lxmert/mscoco_train", damage(0, sentf={"\ud800": ["A."]}, labelf={}), "record 1: source is '.ud800'"),
        ("lxmert/mscoco_train", damage(0, sentf={"vg": [""]}, labelf={}), "record 1: vg 0: sentence is ''"),
        ("lxmert/mscoco_train", lambda content: content * 2, f"record 2: img_id {NAMES[0]} found twice"),
        ("lxmert/mscoco_train", damage(0, img_id="zebra"), "mscoco_train.json: record 1 names image zebra, absent"),
        ("lxmert/all_ans", damage(0, dsets="vqa"), "record 1: dsets is 'vqa', expected a list of vqa, gqa"),
        ("lxmert/all_ans", damage(0, dsets=["vqa", "okvqa"]), "record 1: dsets is "),
        ("lxmert/all_ans", damage(0, ans="yes"), "all_ans.json: label 2: answer yes found twice"),
        ("lxmert/all_ans", damage(0, ans=None), "all_ans.json: label 0: answer is None"),
    ],
)
def test_a_wrong_record_is_named(source: Path, file: str, change: Callable[[Any], Any], message: str) -> None:
    folder = file.partition("/")[0]
    edit(source / f"{file}.json", change)
    refused(source, "lxmert-pretrain" if folder == "lxmert" else f"lxmert-{folder}", message)


@pytest.mark.parametrize("content", [b"", b"[{", b"\xff\xfe\x00", b"[" * 100_000, b"[1e999999, " + b"9" * 5_000 + b"]"])
def test_a_file_that_is_not_json_is_named(source: Path, content: bytes) -> None:
    (source / "vqa/train.json").write_bytes(content)
    refused(source, "lxmert-vqa", "train.json: not JSON")


def test_unusual_but_right_text_is_kept(source: Path) -> None:
    sentence = "שלום 🐕 " + "very " * 5_000 + "long\u2028dog\n"
    edit(source / "vqa/train.json", damage(1, sent=sentence))
    (source / "vqa/train.json").write_bytes(b"\xef\xbb\xbf" + (source / "vqa/train.json").read_bytes())
    assert rows(prepare(source, "lxmert-vqa"), "vqa", "train")[1].text == sentence


@pytest.mark.parametrize(
    ("format", "names", "message"),
    [
        (
            "lxmert-vqa",
            ["vqa/train.json", "vqa/minival.json", "vqa/test.json"],
            "vqa: found no train.json or nominival",
        ),
        ("lxmert-vqa", ["vqa/trainval_label2ans.json"], "vqa: found no trainval_label2ans.json"),
        ("lxmert-pretrain", ["lxmert/all_ans.json"], "lxmert: found no all_ans.json"),
        ("lxmert-nlvr2", ["nlvr2_imgfeat/valid_obj36.tsv"], r"names image dev-5-0-img0, absent from the source"),
    ],
)
def test_missing_files_are_named(source: Path, format: str, names: list[str], message: str) -> None:
    for name in names:
        (source / name).unlink()
    refused(source, format, message)


def test_an_inverse_table_may_be_missing(source: Path) -> None:
    (source / "vqa/trainval_ans2label.json").unlink()
    assert prepare(source, "lxmert-vqa").answers("vqa") == ANSWERS


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_value_in_any_place_gives_a_corpus_or_one_line(format: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_lxmert(Path(folder) / "data")
        own = source / format.removeprefix("lxmert-").replace("pretrain", "lxmert")
        path = data.draw(st.sampled_from(sorted(own.iterdir())))
        holder = [json.loads(path.read_text())]
        place = data.draw(st.sampled_from(places(holder)[1:]))
        inner: Any = holder
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = data.draw(JSON)
        write_json(path, holder[0])
        try:
            corpus = prepare(source, format)
        except CorpusError as error:
            assert "\n" not in str(error)
        else:
            task = corpus.manifest["examples"]
            known = set(corpus.image_ids())
            read = [row for name, splits in task.items() for split in splits for row in rows(corpus, name, split)]
            assert read and all(row.text.strip() and known.issuperset(row.image_ids) for row in read)
