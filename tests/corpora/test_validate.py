"""Validation lists the faults of a corpus, counts them, and names the first cases."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.corpora.files import png
from vlx import corpora
from vlx.corpora import Example, validate
from vlx.corpora.writer import CorpusWriter

FEATURES = np.ones((2, 3), np.float32)
BOXES = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]], np.float32)
GOOD = Example("1", "What color is it?", ["a"], answers=["red", "blue"], scores=[1.0, 0.3])


def corpus_of(
    folder: Path, *rows: Example, data: bytes | None = None, damage: Callable | None = None
) -> corpora.Corpus:
    with CorpusWriter(folder / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES, data=data)
        writer.add_image("b", FEATURES, BOXES)
        writer.add_examples("vqa", "val", rows)
        writer.add_answers("vqa", ["red", "yes"])
        writer.commit(reader="test", detector="external", source=[])
    corpus = corpora.open(folder / "corpus")
    if damage:  # the writer refuses impossible regions; an old or altered file may hold them
        corpus._boxes = damage(corpus._boxes.copy())
    return corpus


def faults(corpus: corpora.Corpus) -> dict[str, validate.Finding]:
    return {finding.what: finding for finding in validate.validate(corpus) if finding.what != "image of no example"}


def test_a_sound_corpus_has_no_findings(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, GOOD, GOOD._replace(identifier="2", image_ids=["b"]), data=png((9, 9)))
    assert validate.validate(corpus) == []
    assert "no faults" in validate.table([], corpus)


@pytest.mark.parametrize(
    ("change", "what", "serious"),
    [
        ({"identifier": "1"}, "identifier found twice in its split", True),
        ({"image_ids": ["c"]}, "image is not in the corpus", True),
        ({"image_ids": []}, "example without an image", True),
        ({"text": " "}, "empty text", True),
        ({"scores": [1.0]}, "not one score an answer", True),
        ({"scores": [1.5, 0.0]}, "score outside 0..1", True),
        ({"answers": ["green"], "scores": [1.0]}, "no answer is in the vocabulary", False),
        ({"choices": ["x", "y"], "label": 2}, "label outside its choices", True),
        ({"boxes": [[0.5, 0, 0.2, 1]]}, "box outside its image", True),
        ({"boxes": [[0, 0, 1, 1.1]]}, "box outside its image", True),
    ],
)
def test_each_fault_of_an_example_is_found(tmp_path: Path, change: dict, what: str, serious: bool) -> None:
    rows = [GOOD] + [GOOD._replace(**({"identifier": str(number)} | change)) for number in range(2, 9)]
    finding = faults(corpus_of(tmp_path, *rows))[what]
    assert finding.times == 7 and finding.serious == serious
    assert finding.first == tuple(f"vqa val {rows[number].identifier}" for number in range(1, 6))


@pytest.mark.parametrize("data", [b"hello", png((9, 9))[:40]])
def test_an_image_that_cannot_be_decoded_is_found(tmp_path: Path, data: bytes) -> None:
    assert faults(corpus_of(tmp_path, GOOD, data=data))["image that cannot be decoded"].first == ("a",)


def test_impossible_regions_are_found(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, GOOD, damage=lambda boxes: boxes + 0.3)
    assert faults(corpus)["region outside its image"].times == 2
    corpus._boxes[:, 2] = corpus._boxes[:, 0]
    assert not faults(corpus)["region without area"].serious
    corpus._features = np.full_like(corpus._features, np.nan)
    assert faults(corpus)["feature that is not a number"].first == ("a", "b")


def test_an_unused_image_is_a_note(tmp_path: Path) -> None:
    (finding,) = validate.validate(corpus_of(tmp_path, GOOD))
    assert finding == validate.Finding("image of no example", 1, ("b",), False)


def test_histograms_count_regions_words_and_answers(tmp_path: Path) -> None:
    found = validate.histograms(corpus_of(tmp_path, GOOD, GOOD._replace(identifier="2", text="Red?", label=1)))
    assert found["regions of an image"] == Counter({2: 2})
    assert found["words of a text of vqa"] == Counter({4: 1, 1: 1})
    assert found["answers of vqa"] == Counter({"red": 2, "blue": 2, "label 1": 1})
