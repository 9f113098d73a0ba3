"""Splits as batches: negatives of retrieval, tags of each image, the order of NLVR's boxes, targets of grounding."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from tests.inputs.retrieval_toy import FEATURE, HARD, open_validation, write_captions
from tests.training.toy import config
from vlx import corpora, tasks
from vlx.corpora import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.inputs.dataset import grounding_targets
from vlx.objectives import supervised
from vlx.recipes.build import new_task_model
from vlx.tasks.base import Encoded

LEFT = (0.0, 0.0, 0.5, 1.0)
RIGHT = (0.5, 0.0, 1.0, 1.0)


def test_similar_images_are_those_of_a_near_mean_region_or_those_that_the_source_lists(tmp_path: Path) -> None:
    rows = open_validation(write_captions(tmp_path / "plain", {})).groups.hard_negatives
    assert [row[0] for row in rows] == [2, 3, 0, 1] and {len(row) for row in rows} == {3}
    corpus = write_captions(tmp_path / "with lists", {"a": {"hard_negatives": ["d", "gone", "b"]}})
    assert open_validation(corpus).groups.hard_negatives == [[3, 1], [], [], []]
    with pytest.raises(CorpusError, match="all captions are of one image"):
        _ = open_validation(corpus, limit=2).groups


def test_four_pairs_are_one_example_of_which_the_first_is_correct(tmp_path: Path) -> None:
    corpus = write_captions(tmp_path / "corpus", {})
    dataset = open_validation(corpus)
    model = new_task_model(config(task="retrieval"), HARD, corpus).model.eval()
    batch = dataset.training_batch([0, 3, 4], seed=1, epoch=0)
    assert batch["input_ids"].shape[:2] == (3, 4) and batch["labels"].tolist() == [0, 0, 0]
    (row,) = HARD.training_pairs(dataset.encoded, dataset.groups, 3, Random("1/0/3"))
    assert batch["regions"][1, :, 0, 0].tolist() == [FEATURE[name] + 0.5 for name in row.image_ids]
    logits = model(batch).logits.reshape(3, 4)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    assert torch.allclose(supervised(HARD.loss)(model, batch).total, expected)


def test_a_pair_reads_the_tags_of_its_image(tmp_path: Path) -> None:
    task = tasks.load("retrieval")
    corpus = write_captions(tmp_path / "corpus", {})
    dataset = open_validation(corpus, task)
    tokenizer = new_task_model(config(task="retrieval"), task, corpus).wordpiece
    for index in range(8):
        for row in task.training_pairs(dataset.encoded, dataset.groups, index, Random(index)):
            (tag_ids,) = tokenizer.token_ids([f"{row.image_ids[0]}0"])
            second = [token for token, segment in zip(row.texts[0], row.segments[0], strict=True) if segment]
            assert second == [*tag_ids, tokenizer.sep]
    assert dataset.training_batch([0], seed=0, epoch=0)["token_type_ids"].sum() > 0


def test_the_order_of_the_boxes_is_drawn_from_seed_epoch_and_example(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus", dtype="float32") as writer:
        for value, name in enumerate("abc"):
            writer.add_image(name, np.full((1, 4), value, np.float32), np.array([[0, 0, 1, 1]], np.float32))
        rows = [Example(f"1-{number}", "a text", list("abc"), label=number % 2) for number in range(9)]
        for name in ("train", "val"):
            writer.add_examples("nlvr", name, rows)
        writer.commit(reader="toy", detector="external", source=[])
    dataset = open_validation(corpora.open(tmp_path / "corpus"), tasks.load("nlvr"))

    def orders(indices: list[int], epoch: int) -> torch.Tensor:
        batch = dataset.training_batch(indices, seed=3, epoch=epoch)
        assert batch["labels"].tolist() == [index % 2 for index in indices]
        return batch["regions"][:, :, 0, 0]

    first = orders(list(range(9)), 0)
    assert torch.equal(first.sort(1).values, torch.arange(3.0).expand(9, -1)) and len(first.unique(dim=0)) > 2
    assert torch.equal(orders([7, 2], 0), first[[7, 2]])
    assert not torch.equal(orders(list(range(9)), 1), first)
    assert dataset.batch([4])["regions"][0, :, 0, 0].tolist() == [0, 1, 2], "evaluation keeps the order"


def test_targets_are_overlaps_of_at_least_a_half() -> None:
    regions = torch.tensor([[LEFT, RIGHT, (0.0, 0.0, 0.75, 1.0), (0.0, 0.0, 0.2, 1.0)]])
    targets = grounding_targets([Encoded(([1],), ("a",), box=LEFT)], regions)["targets"]
    assert targets[0].tolist() == pytest.approx([1.0, 0.0, 0.5 / 0.75, 0.0])


def test_candidates_are_padded_with_boxes_without_area() -> None:
    rows = [Encoded(([1],), ("a",), box=LEFT, candidates=boxes) for boxes in ((LEFT, RIGHT), (RIGHT,))]
    batch = grounding_targets(rows, torch.tensor([[LEFT], [RIGHT]]))
    assert batch["candidates"].tolist() == [[list(LEFT), list(RIGHT)], [list(RIGHT), [0.0] * 4]]
    assert "candidates" not in grounding_targets([Encoded(([1],), ("a",), box=LEFT)], torch.tensor([[LEFT]]))
