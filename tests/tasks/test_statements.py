"""Official numbers and files of NLVR and NLVR2, computed by hand."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from datasets import Dataset

from vlx import tasks
from vlx.errors import ConfigError
from vlx.tasks.base import Encoded
from vlx.tokenization import WordPiece

EXAMPLES = Dataset.from_dict(
    {
        "identifier": ["dev-1-0-0", "dev-1-1-0", "dev-2-0-0", "dev-2-1-0"],
        "group": ["dev-1-0", "dev-1-0", "dev-2-0", "dev-2-0"],
        "text": ["A dog.", "A dog.", "Two cats.", "Two cats."],
        "image_ids": [["a", "b"]] * 4,
        "label": [1, 0, 1, 1],
        "category": ["dog", "dog", "cat", "cat"],
    }
)
PROBABILITIES = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])  # predicts 1 0 0 1: the third is wrong


def test_accuracy_is_three_of_four_and_one_of_two_groups_is_consistent() -> None:
    assert tasks.load("nlvr2").score(EXAMPLES, PROBABILITIES) == {"accuracy": 0.75, "consistency": 0.5}


def test_with_bce_each_answer_is_its_own_yes_or_no() -> None:
    task, tokenizer = tasks.load("nlvr2", loss="bce"), WordPiece.train(EXAMPLES["text"], size=60)
    rows = task.encode(
        EXAMPLES.map(lambda row, at: {"label": row["label"] if at else -1}, with_indices=True), tokenizer, limit=9
    )
    assert [row.scores for row in rows] == [{}, {0: 1.0}, {1: 1.0}, {1: 1.0}]
    logits = torch.tensor([[0.0, 2.0]])
    assert torch.equal(task.probabilities(logits, {}), logits.sigmoid())
    # -log sigmoid(-0) and -log sigmoid(2), a mean over the two answers
    loss = task.loss(logits, {"targets": torch.tensor([[0.0, 1.0]])}).item()
    assert loss == pytest.approx((math.log(2) + math.log1p(math.exp(-2))) / 2)
    assert tasks.load("gqa", ["a"], loss="bce").loss is tasks.load("vqa", ["a"]).loss
    assert tasks.load("refcoco", loss="bce") == tasks.load("refcoco")
    with pytest.raises(ConfigError, match="loss=bce: task vcr_q2a chooses one of several"):
        tasks.load("vcr_q2a", loss="bce")


def test_the_majority_baseline_is_the_more_frequent_answer() -> None:
    assert tasks.load("nlvr2").majority_baseline(EXAMPLES) == 0.75


def test_official_files(tmp_path: Path) -> None:
    tasks.load("nlvr2").write_submission(EXAMPLES, PROBABILITIES, tmp_path / "a")
    assert (tmp_path / "a.csv").read_text() == "dev-1-0-0,True\ndev-1-1-0,False\ndev-2-0-0,False\ndev-2-1-0,True\n"
    first = EXAMPLES.select([0]).map(lambda row: {"identifier": "1572-0"})
    tasks.load("nlvr").write_submission(first, PROBABILITIES[:1], tmp_path / "b")
    assert (tmp_path / "b.csv").read_text() == "dev-1572-0-0.png,true\n"


def test_a_long_statement_is_cut_and_keeps_its_ends() -> None:
    tokenizer = WordPiece.train(["a dog . two cats"], size=100)
    (row,) = tasks.load("nlvr2").encode(EXAMPLES.select([2]), tokenizer, limit=4)
    assert row.texts[0] == [tokenizer.cls, tokenizer.vocab["two"], tokenizer.vocab["cats"], tokenizer.sep]
    assert (row.image_ids, row.label) == (("a", "b"), 1)


def test_predictions_have_a_row_for_each_example() -> None:
    rows = tasks.load("nlvr2").predictions(EXAMPLES, PROBABILITIES)
    assert rows["correct"] == [True, True, False, True]
    assert rows["prediction"] == ["True", "False", "False", "True"]
    assert {len(values) for values in rows.values()} == {4}


def test_tags_follow_the_statement_in_a_second_part_of_each_image() -> None:
    tokenizer = WordPiece.train(["a dog . two cats", "grass sky"], size=100)
    examples = EXAMPLES.select([0]).map(lambda row: {"extra": ""})
    tags = {"a": ["grass"], "b": ["sky", "dog"]}
    (row,) = tasks.load("nlvr2").encode(examples, tokenizer, limit=20, tags=tags.__getitem__)
    pieces = {index: piece for piece, index in tokenizer.vocab.items()}
    assert [" ".join(pieces[index] for index in text) for text in row.texts] == [
        "[CLS] a dog . [SEP] grass [SEP]",
        "[CLS] a dog . [SEP] sky dog [SEP]",
    ]
    assert row.segments == ([0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1])
    (tagged,) = tasks.load("nlvr2").encode(
        examples.map(lambda row: {"extra": '{"tags": ["cats", ""]}'}), tokenizer, limit=20, tags=tags.__getitem__
    )
    assert [len(text) for text in tagged.texts] == [7, 5]
    (plain,) = tasks.load("nlvr2").encode(examples, tokenizer, limit=20, tags=lambda image: [])
    assert len(plain.texts) == 1 and plain.segments == ()


def test_the_boxes_of_nlvr_come_in_any_order_each_with_its_own_tags() -> None:
    task = tasks.load("nlvr")
    assert task.examples_vary and not tasks.load("nlvr2").examples_vary
    row = Encoded(([1], [2], [3]), ("a", "b", "c"), label=1, segments=([10], [20], [30]))
    rows = [task.training_pairs([row], None, 0, Random(seed))[0] for seed in range(50)]
    assert len({each.image_ids for each in rows}) == 6
    for each in rows:
        assert sorted(zip(each.image_ids, each.texts, each.segments, strict=True)) == [
            ("a", [1], [10]), ("b", [2], [20]), ("c", [3], [30])
        ]  # fmt: skip
        assert each.label == 1
    (shared,) = task.training_pairs([Encoded(([1],), ("a", "b", "c"))], None, 0, Random(1))
    assert shared.texts == ([1],) and shared.segments == ()


def test_a_score_is_over_the_examples_and_answers_are_described_best_first() -> None:
    task = tasks.load("snli_ve")
    assert task.evaluation_protocol(EXAMPLES, [Encoded(([1],), ("a",))] * 1200) == "1,200 examples"
    assert task.describe_answers([0.1, 0.3, 0.6], 2) == [("entailment", 0.6), ("neutral", 0.3)]
    assert task.training_pairs([Encoded(([1],), ("a",))], None, 0, Random(1)) == [Encoded(([1],), ("a",))]
    with pytest.raises(ConfigError, match="task=snli_ve: a dual encoder only matches texts and images"):
        task.for_dual_encoder()
