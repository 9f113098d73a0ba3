"""Retrieval's ranks and recalls, computed by hand."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from datasets import Dataset

from vlx import tasks
from vlx.errors import ConfigError
from vlx.tasks.retrieval import ranks_of
from vlx.tokenization import WordPiece

TASK = tasks.load("retrieval")
EXAMPLES = Dataset.from_dict(
    {
        "identifier": ["0", "1", "2", "3"],
        "text": ["a dog", "a small dog", "a cat", "two cats"],
        "image_ids": [["x"], ["x"], ["y"], ["y"]],
        "category": [""] * 4,
        "extra": [""] * 4,
    }
)
# captions x images. t2i: the right picture comes first for captions 0, 2 and 3. i2t: x finds caption 0 first;
# y finds caption 1 (wrong) before 2.
SCORES = np.array([[0.9, 0.1], [0.3, 0.8], [0.2, 0.7], [0.1, 0.6]])


def test_recalls_both_ways() -> None:
    assert TASK.score(EXAMPLES, SCORES) == pytest.approx(
        {
            **{"t2i_recall_at_1": 0.75, "t2i_recall_at_5": 1.0, "t2i_recall_at_10": 1.0},
            **{"i2t_recall_at_1": 0.5, "i2t_recall_at_5": 1.0, "i2t_recall_at_10": 1.0},
            "recall_mean": (0.75 + 0.5 + 4) / 6,
        }
    )


def test_of_equal_scores_the_later_candidate_comes_first() -> None:
    belongs = np.array([[True, False, False]])
    assert ranks_of(np.array([[0.5, 0.5, 0.1]]), belongs).tolist() == [1]
    assert ranks_of(np.zeros((1, 3)), belongs).tolist() == [2]
    assert ranks_of(np.zeros((1, 3)), ~belongs & False).tolist() == [3]  # nothing to find: beyond the last


def test_chance_is_the_recall_of_a_random_order() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        found.append(TASK.score(EXAMPLES, rng.random((4, 2)))["recall_mean"])
    assert np.mean(found) == pytest.approx(TASK.chance_level(EXAMPLES), abs=0.02)


def test_a_negative_pair_never_belongs_together_and_swaps_either_side() -> None:
    encoded = TASK.encode(EXAMPLES, WordPiece.train(EXAMPLES["text"], size=60), limit=8)
    groups = TASK.groups(encoded)
    assert groups == ([0, 0, 1, 1], [[0, 1], [2, 3]], ())
    own = {tuple(row.texts[0]): row.image_ids for row in encoded}
    swapped = []
    for seed in range(200):
        right, row = TASK.learnt(encoded, groups, 0, Random(seed))
        assert right == encoded[0] and right.label == 1
        assert row.label == 0 and own[tuple(row.texts[0])] != row.image_ids
        swapped.append(row.texts != encoded[0].texts)
    assert 60 < sum(swapped) < 140


def test_three_wrong_pairs_have_another_caption_another_picture_and_a_caption_of_one_alike() -> None:
    task = tasks.load("retrieval", negatives="three")
    examples = Dataset.from_dict(
        {"text": ["a dog", "a cat", "a cow", "a hen"], "image_ids": [["d"], ["c"], ["o"], ["h"]]}
    )
    encoded = task.encode(examples, WordPiece.train(examples["text"], size=60), limit=8)
    groups = task.groups(encoded)._replace(near=[[3], [2], [1], [0]])
    caption = {tuple(row.texts[0]): row.image_ids[0] for row in encoded}
    others = [set(), set(), set()]
    for seed in range(60):
        (row,) = task.learnt(encoded, groups, 0, Random(seed))
        pairs = [(caption[tuple(text)], image) for text, image in zip(row.texts, row.image_ids, strict=True)]
        assert row.label == 0 and pairs[0] == ("d", "d")
        for found, pair in zip(others, pairs[1:], strict=True):
            found.add(pair)
    assert others == [{(one, "d") for one in "coh"}, {("d", one) for one in "coh"}, {("h", "d")}]
    assert task.head.kind == "choose" and task.probabilities(torch.tensor([[0.0]]), {}).tolist() == [[0.5, 0.5]]
    with pytest.raises(ConfigError, match="negatives=three: task nlvr2 has no pairs"):
        tasks.load("nlvr2", negatives="three")


def test_a_caption_meets_each_picture_with_its_tags_in_the_room_that_is_left() -> None:
    tags = {"x": ["dog"] * 9, "y": []}
    tokenizer = WordPiece.train([*EXAMPLES["text"], "dog"], size=80)
    for limit in (4, 5, 6, 7, 30):
        encoded = TASK.encode(EXAMPLES, tokenizer, limit=limit, tags=tags.__getitem__)
        for row, text in zip(encoded, EXAMPLES["text"], strict=True):
            for picture in (encoded[0], encoded[2]):
                said = " ".join(tags[picture.image_ids[0]])
                found = TASK.pair(row, picture)
                ((ids, segments),) = tokenizer.encode_pairs([text], [said], limit=limit, cut="second")
                assert (found.texts, found.segments, found.image_ids) == ((ids,), (segments,), picture.image_ids)
                assert TASK.pair(found, row) == row
    plain = TASK.encode(EXAMPLES, tokenizer, limit=9, tags=lambda image: [])
    assert plain == TASK.encode(EXAMPLES, tokenizer, limit=9)


def test_where_captions_are_listed_pictures_find_theirs_among_them_alone(tmp_path: Path) -> None:
    """x: 0 and 2, of which 0 is right and scores more. y: 1 and 3, of which 1 is wrong and scores more: the second."""
    lists = [json.dumps({"candidates": found}) for found in (["0", "2"], ["1", "3", "cut off"])]
    examples = EXAMPLES.map(lambda row, at: {"extra": lists[at // 2]}, with_indices=True)
    asked = TASK.asked(examples)
    assert asked is not None and asked.tolist() == [[True, False], [False, True], [True, False], [False, True]]
    scores = np.where(asked, SCORES, np.nan)
    expected = {"recall_mean": 2.5 / 3, "i2t_recall_at_1": 0.5, "i2t_recall_at_5": 1.0, "i2t_recall_at_10": 1.0}
    assert TASK.score(examples, scores) == pytest.approx(expected)
    assert TASK.chance_level(examples) == pytest.approx(2.5 / 3)
    rows = TASK.predictions(examples, scores)
    assert rows["prediction"] == ["a dog", "a small dog"] and rows["right"] == [True, False]
    assert {len(values) for values in rows.values()} == {2}
    path = TASK.write_submission(examples, scores, tmp_path / "minival")
    assert TASK.rescore(examples, path) == pytest.approx(expected)


def test_the_metrics_file_is_oscars(tmp_path: Path) -> None:
    path = TASK.write_submission(EXAMPLES, SCORES, tmp_path / "retrieval_test")
    assert path.name == "retrieval_test.eval.json"
    found = json.loads(path.read_text())
    assert found["i2t_retrieval"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    assert found["t2i_retrieval"]["R@1"] == 0.75
