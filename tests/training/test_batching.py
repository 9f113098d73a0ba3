"""Pairs of captions and pictures: which are scored, and which pictures look alike. Orders of NLVR's boxes."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from vlx.training.batching import Split, open_split
from vlx.training.recipes import new_model

from tests.training.toy import config
from vlx import corpora, tasks
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.objectives import supervised
from vlx.training import evaluation

AT = {"a": 0.0, "b": 10.0, "c": 1.0, "d": 12.0}  # every region's features: c looks like a, d like b
HARD = tasks.load("retrieval", negatives="three")


def captions_of(corpus: Path, extra: dict[str, dict[str, list[str]]]) -> Corpus:
    """Two captions of each picture, and what is listed beside."""
    with CorpusWriter(corpus, dtype="float32") as writer:
        for name, value in AT.items():
            regions = np.full((2, 4), value, np.float32) + np.array([[0.5], [-0.5]], np.float32)
            writer.add_image(name, regions, np.tile(np.array([[0, 0, 1, 1]], np.float32), (2, 1)), tags=(f"{name}0",))
        rows = [Example(f"{name}-{at}", f"text {name} {at}", [name], group=name) for name in AT for at in (0, 1)]
        rows = [row._replace(extra=json.dumps(extra[row.group]) if row.group in extra else "") for row in rows]
        for split in ("train", "val", "test"):
            writer.add_examples("retrieval", split, rows)
        writer.commit(reader="toy", detector="external", source=[])
    return corpora.open(corpus)


def split_of(corpus: Corpus, task: tasks.Task = HARD, **options: int) -> Split:
    words = new_model(config(task="retrieval"), task, corpus).words
    return open_split(corpus, task, "val", words, max_text_tokens=12, max_regions=4, tags=True, **options)


def test_pictures_are_alike_by_their_mean_region_or_as_listed(tmp_path: Path) -> None:
    found = split_of(captions_of(tmp_path / "plain", {})).groups.near
    assert [row[0] for row in found] == [2, 3, 0, 1] and {len(row) for row in found} == {3}
    listed = captions_of(tmp_path / "listed", {"a": {"hard_negatives": ["d", "gone", "b"]}})
    assert split_of(listed).groups.near == [[3, 1], [], [], []]
    with pytest.raises(CorpusError, match="all captions are of one picture"):
        _ = split_of(listed, limit=2).groups


def test_four_pairs_are_one_example_of_which_the_first_is_right(tmp_path: Path) -> None:
    corpus = captions_of(tmp_path / "corpus", {})
    split, model = split_of(corpus), new_model(config(task="retrieval"), HARD, corpus).model
    batch = split.training_batch([0, 3, 4], seed=1, epoch=0)
    assert batch["input_ids"].shape[:2] == (3, 4) and batch["labels"].tolist() == [0, 0, 0]
    (row,) = HARD.learnt(split.encoded, split.groups, 3, Random("1/0/3"))
    assert batch["regions"][1, :, 0, 0].tolist() == [AT[name] + 0.5 for name in row.image_ids]
    model.eval()
    logits = model(batch).logits.reshape(3, 4)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    assert torch.allclose(supervised(HARD.loss)(model, batch).total, expected)


def test_listed_pairs_alone_are_scored_and_the_list_may_be_left_out(tmp_path: Path) -> None:
    """Each picture's first caption and one of the next picture's."""
    names = [*AT, "a"]
    lists = {one: {"candidates": [f"{one}-0", f"{other}-1"]} for one, other in zip(names, names[1:], strict=False)}
    corpus, task = captions_of(tmp_path / "corpus", lists), tasks.load("retrieval")
    model = new_model(config(task="retrieval"), task, corpus).model
    listed, every = split_of(corpus, task, listed=True, images=2), split_of(corpus, task, images=2)
    found = evaluation.predict(model, listed, task, kept=tmp_path)
    asked = task.asked(listed.examples)
    assert asked is not None and asked.sum() == 8 and np.array_equal(~np.isnan(found), asked)
    assert found.shape == (8, 4) and set(task.score(listed.examples, found)) == {
        *("recall_mean", "i2t_recall_at_1", "i2t_recall_at_5", "i2t_recall_at_10")
    }
    whole = evaluation.predict(model, every, task)
    assert whole.shape == (4, 2) and not np.isnan(whole).any() and len(task.score(every.examples, whole)) == 7
    assert np.allclose(whole[asked[:4, :2]], found[:4, :2][asked[:4, :2]], atol=1e-6)
    np.testing.assert_array_equal(evaluation.predict(model, listed, task, kept=tmp_path), found)


def test_a_pair_reads_the_tags_of_its_own_picture(tmp_path: Path) -> None:
    corpus, task = captions_of(tmp_path / "corpus", {}), tasks.load("retrieval")
    split, tokenizer = split_of(corpus, task), new_model(config(task="retrieval"), task, corpus).words
    for index in range(8):
        for row in task.learnt(split.encoded, split.groups, index, Random(index)):
            (tag,) = tokenizer.pieces([f"{row.image_ids[0]}0"])
            second = [token for token, part in zip(row.texts[0], row.segments[0], strict=True) if part]
            assert second == [*tag, tokenizer.sep]
    assert split.training_batch([0], seed=0, epoch=0)["token_type_ids"].sum() > 0


def test_the_order_of_the_boxes_is_drawn_from_seed_epoch_and_example(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus", dtype="float32") as writer:
        for value, name in enumerate("abc"):
            writer.add_image(name, np.full((1, 4), value, np.float32), np.array([[0, 0, 1, 1]], np.float32))
        for name in ("train", "val"):
            rows = [Example(f"1-{at}", "a text", list("abc"), label=at % 2) for at in range(9)]
            writer.add_examples("nlvr", name, rows)
        writer.commit(reader="toy", detector="external", source=[])
    split = split_of(corpora.open(tmp_path / "corpus"), tasks.load("nlvr"))

    def orders(indices: list[int], epoch: int) -> torch.Tensor:
        batch = split.training_batch(indices, seed=3, epoch=epoch)
        assert batch["labels"].tolist() == [index % 2 for index in indices]
        return batch["regions"][:, :, 0, 0]

    found = orders(list(range(9)), 0)
    assert torch.equal(found.sort(1).values, torch.arange(3.0).expand(9, -1)) and len(found.unique(dim=0)) > 2
    assert torch.equal(orders([7, 2], 0), found[[7, 2]]) and not torch.equal(orders(list(range(9)), 1), found)
    assert split.batch([4])["regions"][0, :, 0, 0].tolist() == [0, 1, 2]  # scored as they are
