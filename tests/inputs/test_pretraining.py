"""Image-text pairs of pre-training: their masks, negatives and answers."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inputs.pixel_toy import write_pretraining_corpus
from tests.recipes.pretraining_toy import open_splits, open_train, pixel_config
from vlx import synthetic
from vlx.corpora import Corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """120 sentences about 9 images."""
    yield synthetic.build(tmp_path_factory.mktemp("corpora") / "synthetic", task="pretrain", size=120)


@pytest.mark.parametrize("model", ["lxmert", "vilbert", "oscar"])
def test_masks_depend_on_seed_epoch_and_example_in_any_batch(corpus: Corpus, model: str) -> None:
    dataset = open_train(corpus, model)
    batch = dataset.training_batch([5, 40, 7], seed=1, epoch=2)
    single = dataset.training_batch([40], seed=1, epoch=2)
    for name in single.keys() - {"masked_positions", "packing"}:
        row = batch[name][1].reshape(-1, *batch[name].shape[2:])
        expected = single[name][0].reshape(-1, *single[name].shape[2:])
        assert torch.equal(row[: len(expected)], expected), name  # then padding
    first, later, reseeded = (
        dataset.training_batch(range(60), seed=seed, epoch=epoch)["input_ids"].tolist()
        for seed, epoch in ((1, 2), (1, 3), (2, 2))
    )
    assert first != later and first != reseeded
    evaluation = [dataset.evaluation_batch([3])["input_ids"] for _ in range(2)]
    assert torch.equal(*evaluation)


def test_a_negative_text_is_another_images_and_has_no_answer(corpus: Corpus) -> None:
    dataset = open_train(corpus, "lxmert", mlm_probability=0.0, max_text_tokens=55)
    batch = dataset.training_batch(range(len(dataset)), seed=0, epoch=0)
    matches = batch["itm_labels"]
    assert 0.35 < matches.float().mean() < 0.65
    texts = [dataset.tokenizer.with_special_tokens(pair.text_ids)[0] for pair in dataset.pairs]
    images_of = defaultdict[tuple[int, ...], set[str]](set)
    for pair, ids in zip(dataset.pairs, texts, strict=True):
        images_of[tuple(ids)].add(pair.image_id)
    for index, pair in enumerate(dataset.pairs):
        ids = batch["input_ids"][index][batch["text_mask"][index]].tolist()
        if matches[index]:
            assert ids == texts[index]
        else:
            assert images_of[tuple(ids)] - {pair.image_id}, "a text of another image"
            assert batch["qa_labels"][index] == -1
    answered = {index for index, pair in enumerate(dataset.pairs) if pair.answers and matches[index]}
    assert answered
    assert all(batch["qa_labels"][index].item() in dataset.pairs[index].answers for index in answered)
    assert not open_train(corpus, "lxmert", objectives="mlm").masking.itm_negative_probability


def test_shares_of_masked_tokens_and_regions_are_those_of_the_options(corpus: Corpus) -> None:
    dataset = open_train(corpus, "lxmert", mlm_probability=0.4, mrm_probability=0.5)
    token_shares = []
    region_shares = []
    cleared = 0
    for epoch in range(20):
        batch = dataset.training_batch(range(len(dataset)), seed=0, epoch=epoch)
        tokens = batch["text_mask"].sum() - 2 * len(dataset)
        token_shares.append(len(batch["masked_positions"]) / float(tokens))
        is_region = batch["region_mask"]
        masked = batch["masked_regions"] & is_region
        region_shares.append(float(masked.sum() / is_region.sum()))
        cleared += int(((batch["regions"] == 0).all(-1) & is_region).sum())
        changed = (batch["regions"] != batch["region_targets"]).any(-1)
        assert not (changed & ~batch["masked_regions"]).any()
        assert (batch["mrc_objects_labels"][is_region] >= 0).all()
        assert (batch["mrc_objects_labels"][~is_region] == -1).all()
    assert np.mean(token_shares) == pytest.approx(0.4, abs=0.02)
    assert np.mean(region_shares) == pytest.approx(0.5, abs=0.03)
    assert cleared > 0


def test_vilbert_clears_overlapping_regions_and_marks_the_visible_ones(corpus: Corpus) -> None:
    dataset = open_train(corpus, "vilbert", mrm_probability=0.3, mask_positives_only=True)
    batch = dataset.training_batch(range(len(dataset)), seed=0, epoch=0)
    cleared = (batch["regions"] == 0).all(-1) & batch["region_mask"]
    assert torch.equal(cleared, ~batch["visible_region_mask"] & batch["region_mask"]) and cleared.any()
    negative = batch["itm_labels"] == 0
    assert not batch["masked_regions"][negative].any() and (batch["mlm_labels"][negative] == -1).all()
    classes = batch["region_targets"][batch["region_mask"]]
    torch.testing.assert_close(classes.sum(-1), torch.ones(len(classes)))
    assert classes.shape[1] == corpus.classes("objects_id") + 1
    dataset = open_train(corpus, "vilbert", mrm_loss="nce", nce_negatives=10)
    batch = dataset.training_batch([1, 50, 70], seed=0, epoch=0)
    assert batch["nce_negatives"].shape == (*batch["masked_regions"].shape, 10)


def test_oscar_sees_another_images_text_or_tags(corpus: Corpus) -> None:
    dataset = open_train(corpus, "oscar", mlm_probability=0.0, max_text_tokens=55)
    batch = dataset.training_batch(range(len(dataset)), seed=0, epoch=0)
    assert set(batch["itm_labels"].tolist()) == {0, 1, 2}
    for index in (batch["itm_labels"] == 2).nonzero().flatten().tolist():
        mask = batch["text_mask"][index]
        ids = batch["input_ids"][index][mask]
        segments = batch["token_type_ids"][index][mask]
        assert ids[segments == 0].tolist() == dataset.tokenizer.with_special_tokens(dataset.pairs[index].text_ids)[0]
    without_tags = open_train(corpus, "oscar", object_tags=False).training_batch(range(len(dataset)), seed=0, epoch=0)
    assert set(without_tags["itm_labels"].tolist()) == {0, 1} and "token_type_ids" not in without_tags


def test_every_image_of_a_statement_makes_a_pair(tmp_path: Path) -> None:
    statements = synthetic.build(tmp_path / "nlvr2", task="nlvr2", size=20)
    pairs = open_train(statements, "oscar", task="nlvr2").pairs
    assert len(pairs) == 40 and len({pair.identifier for pair in pairs}) == 40
    assert [pair.image_id for pair in pairs[:2]] == statements.examples("nlvr2", "train")[0]["image_ids"]


def test_validation_sees_all_grid_features_and_the_same_masks_each_time(tmp_path: Path) -> None:
    train, validation, _ = open_splits(pixel_config(), write_pretraining_corpus(tmp_path / "corpus"))
    assert "sampled_grid_features" in train.training_batch([0, 1], seed=0, epoch=0)
    first, second = (validation.evaluation_batch([0, 1]) for _ in range(2))
    assert "sampled_grid_features" not in first
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
