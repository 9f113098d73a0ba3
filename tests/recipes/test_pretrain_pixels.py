"""CLIP-ViL's two stages at toy size: pixels, two optimizers, a second stage that starts from the first."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.inputs.pixel_toy import write_pretraining_corpus
from tests.recipes.pretraining_toy import (
    assert_equal_metrics,
    open_splits,
    pixel_config,
    start,
    train_stage,
    write_clip_and_bert,
)
from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.recipes.build import parameter_groups
from vlx.recipes.pretrain import stage_length
from vlx.training.loop import total_steps


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_pretraining_corpus(tmp_path / "corpus")


def save_stage_one(corpus: Corpus, folder: Path) -> Path:
    cfg = pixel_config(objectives="mlm,itm", steps=2)
    return checkpoints.save(folder / "model", train_stage(cfg, corpus, folder / "one", Recorder()))


def test_the_second_stage_starts_from_all_weights_of_the_first_with_a_new_answer_head(
    corpus: Corpus, tmp_path: Path
) -> None:
    weights = save_stage_one(corpus, tmp_path)
    loaded = start(pixel_config(weights=str(weights)), corpus)
    first = load_file(weights / "model.safetensors")
    second = loaded.model.state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    tied = "cls.predictions.decoder.weight"
    new = {name.partition(".")[0] for name in second.keys() - first.keys() - {tied}}
    assert new == {"answer_head"} and second["answer_head.logit_fc.3.weight"].shape[0] == 3
    assert loaded.preprocessing.stage == 2 and loaded.preprocessing.answers == ("red", "green", "blue")
    assert checkpoints.load(weights).preprocessing.answers == ()


def test_a_first_stage_starts_from_clips_and_berts_weights(corpus: Corpus, tmp_path: Path) -> None:
    clip, bert, source = write_clip_and_bert(tmp_path)
    cfg = pixel_config(clip_weights=str(clip), bert_weights=str(bert))
    loaded, repeated = (start(cfg, corpus) for _ in range(2))
    assert same_weights(loaded.model, repeated.model), "new weights depend on the seed"
    weights = loaded.model.state_dict()
    given = source.state_dict()
    visual = "bert.encoder.visual_model.visual.layer2.0.conv2.weight"
    assert torch.equal(weights[visual], given[visual].half().float())
    layers = ("bert.encoder.layer.2.output.dense.bias", "bert.embeddings.word_embeddings.weight")
    for name in (*layers, "cls.seq_relationship.weight"):
        assert torch.equal(weights[name], given[name]), name
    assert tuple(loaded.model.config.heads) == ("mlm", "itm", "qa") and len(loaded.wordpiece) == 50


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_second_stage_that_stopped_within_an_epoch_ends_in_the_same_bits(
    corpus: Corpus, tmp_path: Path, stop: int
) -> None:
    """Weights, running statistics, the momentum of one optimizer and the averages of the other, every metric."""
    cfg = pixel_config(weights=str(save_stage_one(corpus, tmp_path)))
    uninterrupted, resumed = Recorder(), Recorder()
    expected = train_stage(cfg, corpus, tmp_path / "uninterrupted", uninterrupted)
    with pytest.raises(Stopped):
        train_stage(cfg, corpus, tmp_path / "stopped", Recorder(stop))
    torch.rand(3)  # a new process would have another generator state
    actual = train_stage(cfg, corpus, tmp_path / "stopped", resumed)
    assert same_weights(actual.model, expected.model)
    assert_equal_metrics(resumed, uninterrupted)


def test_every_group_has_its_learning_rate_and_its_weights_move(corpus: Corpus, tmp_path: Path) -> None:
    """4 batches an epoch: the CNN's rate is a tenth in the second; the other falls after a warm-up of 2 steps."""
    cfg = pixel_config(log_every=1)
    run = Recorder()
    before = start(cfg, corpus).model.state_dict()
    after = train_stage(cfg, corpus, tmp_path / "t", run).model.state_dict()
    rates = {name: [run.metrics[step][f"train/{name}"] for step in range(1, 9)] for name in ("lr", "lr_vision")}
    assert rates["lr_vision"] == pytest.approx([0.01] * 4 + [0.001] * 4)
    factors = (0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)
    assert rates["lr"] == pytest.approx([cfg.lr * factor for factor in factors])
    names = ("bert.encoder.visual_model.visual.conv1.weight", "bert.encoder.visual_pos.x_position_embedding.weight")
    for name in (*names, "bert.encoder.visual_model.visual.bn1.running_mean"):
        assert not torch.equal(after[name], before[name]), name


def test_a_stage_that_ends_early_has_the_schedule_of_all_its_epochs(corpus: Corpus) -> None:
    """4 batches an epoch: 12 steps are scheduled, 8 made."""
    cfg = pixel_config(steps=0, epochs=3, stop_epoch=2, warmup_steps=0)
    train = open_splits(cfg, corpus)[0]
    assert parameter_groups(cfg, train)[1].schedule.total == 12
    assert total_steps(stage_length(cfg), train) == 8


def test_without_vision_lr_one_optimizer_trains_all(corpus: Corpus) -> None:
    cfg = pixel_config(vision_lr=0.0)
    assert [group.name for group in parameter_groups(cfg, open_splits(cfg, corpus)[0])] == ["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_max_size": 50}, "image_min_size=32, image_max_size=50: expected multiples of 32"),
        ({"image_min_size": 96}, "image_min_size=96, image_max_size=64: expected .*, image_min_size at most image_max"),
        ({"sampled_grid_features": 3}, "sampled_grid_features=3: expected at most the 2 of an image"),
        ({"vision_layers": "1,1,1"}, "vision_layers=1,1,1, vision_width=2: expected four stages"),
        ({"vision_milestones": "4;8"}, "vision_milestones=4;8: expected numbers joined by commas"),
        ({"clip_weights": "RN50.pth"}, "clip_weights=RN50.pth, bert_weights=: expected both, or neither"),
        (
            {"clip_weights": "RN50.pth", "bert_weights": "b.bin", "weights": "m"},
            "weights=m, clip_weights=RN50.pth: expected one of them",
        ),
        ({"steps": 0, "epochs": 2, "stop_epoch": 3}, "stop_epoch=3: expected at most epochs=2"),
    ],
)
def test_an_impossible_option_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pixel_config(**options)
