"""CLIP-ViL's two stages at toy size: pixels, two optimizers, a second stage that starts from the first."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from vlx.objectives.stages import pretraining
from vlx.training.pretraining import METRIC, groups_of, objectives_of, open_splits, start_from, until, validator

from tests.checkpoints.test_clip_vil import write_parts
from tests.training.pixel_toy import config, write_corpus
from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints
from vlx.checkpoints import Loaded
from vlx.config import PretrainConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.models.student import set_dropout
from vlx.tokenization import SPECIAL
from vlx.training.loop import fit, total_steps

CHANGING = {"train/examples_per_second", "train/padding_share"}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


def train(cfg: PretrainConfig, corpus: Corpus, folder: Path, run: Recorder) -> Loaded:
    names = objectives_of(cfg, corpus)
    start = start_from(cfg, corpus, names)
    learnt, validation, _ = open_splits(cfg, corpus, start.words)
    objective = pretraining(cfg.model, names, weights={})
    set_dropout(start.model, cfg.dropout, cfg.attention_dropout)
    validate, groups = validator(objective, names, {}, validation), groups_of(cfg, learnt)
    fit(start.model, objective, learnt, validate, cfg, run, folder=folder, title="toy", metric=METRIC, groups=groups)
    return start


def stage_one(corpus: Corpus, folder: Path) -> Path:
    made = train(config(objectives="words,matched", steps=2), corpus, folder / "one", Recorder())
    return checkpoints.save(folder / "model", made.model, made.tokenizer, made.meta)


def test_the_second_stage_takes_all_weights_of_the_first_and_draws_the_answers_head(
    corpus: Corpus, tmp_path: Path
) -> None:
    weights = stage_one(corpus, tmp_path)
    cfg = config(weights=str(weights))
    loaded = start_from(cfg, corpus, objectives_of(cfg, corpus))
    first, second = load_file(weights / "model.safetensors"), loaded.model.state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    tied = "cls.predictions.decoder.weight"
    new = {name.partition(".")[0] for name in second.keys() - first.keys() - {tied}}
    assert new == {"answer_head"} and second["answer_head.logit_fc.3.weight"].shape[0] == 3
    assert loaded.meta["stage"] == 2 and loaded.meta["answers"] == ["red", "green", "blue"]
    assert checkpoints.load(weights).meta["answers"] == []


def test_a_first_stage_starts_from_clips_and_berts_weights(corpus: Corpus, tmp_path: Path) -> None:
    clip, bert, source = write_parts(tmp_path)
    entries = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz?", *(f"##{letter}" for letter in "abcdefghijklmnopqr")]
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    cfg = config(clip=str(clip), bert=str(bert))
    loaded, again = (start_from(cfg, corpus, objectives_of(cfg, corpus)) for _ in range(2))
    assert same_weights(loaded.model, again.model), "what is drawn is the seed's"
    own, given = loaded.model.state_dict(), source.state_dict()
    kept = ("bert.encoder.visual_model.visual.layer2.0.conv2.weight", "bert.encoder.layer.2.output.dense.bias")
    for name in (*kept, "bert.embeddings.word_embeddings.weight", "cls.seq_relationship.weight"):
        assert torch.equal(own[name], given[name].half().float() if "visual" in name else given[name]), name
    assert tuple(loaded.model.config.heads) == ("words", "matched", "answers") and len(loaded.words) == 50


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_second_stage_that_stopped_within_an_epoch_ends_in_the_same_bits(
    corpus: Corpus, tmp_path: Path, stop: int
) -> None:
    """Weights, running statistics, the momentum of one optimizer and the averages of the other, every metric."""
    cfg = config(weights=str(stage_one(corpus, tmp_path)))
    record, again = Recorder(), Recorder()
    whole = train(cfg, corpus, tmp_path / "whole", record).model
    with pytest.raises(Stopped):
        train(cfg, corpus, tmp_path / "parts", Recorder(stop))
    torch.rand(3)  # a new process would have another generator state
    model = train(cfg, corpus, tmp_path / "parts", again).model
    assert same_weights(model, whole)
    for step, values in again.metrics.items():
        assert {name: x for name, x in values.items() if name not in CHANGING} == {
            name: x for name, x in record.metrics[step].items() if name not in CHANGING
        }


def test_every_group_has_its_rate_and_its_weights_move(corpus: Corpus, tmp_path: Path) -> None:
    """4 batches an epoch: the CNN's rate is a tenth in the second; the other's falls after its warm-up of 2 steps."""
    cfg, run = config(log_every=1), Recorder()
    start = start_from(cfg, corpus, objectives_of(cfg, corpus)).model
    model = train(cfg, corpus, tmp_path / "t", run).model
    rates = {name: [run.metrics[step][f"train/{name}"] for step in range(1, 9)] for name in ("lr", "lr_vision")}
    assert rates["lr_vision"] == pytest.approx([0.01] * 4 + [0.001] * 4)
    assert rates["lr"] == pytest.approx(
        [cfg.lr * factor for factor in (0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)]
    )
    names = ("bert.encoder.visual_model.visual.conv1.weight", "bert.encoder.visual_pos.x_position_embedding.weight")
    for name in (*names, "bert.encoder.visual_model.visual.bn1.running_mean"):
        assert not torch.equal(model.state_dict()[name], start.state_dict()[name]), name


def test_a_stage_that_is_cut_keeps_the_schedule_of_all_its_epochs(corpus: Corpus) -> None:
    """4 batches an epoch: 12 steps are scheduled, 8 made."""
    cfg = config(steps=0, epochs=3, stop_epoch=2, warmup_steps=0)
    learnt, _, _ = open_splits(cfg, corpus, start_from(cfg, corpus, ("words",)).words)
    assert groups_of(cfg, learnt)[1].schedule.total == 12 and total_steps(until(cfg), learnt) == 8


def test_one_optimizer_for_all_without_a_rate_of_the_network(corpus: Corpus) -> None:
    cfg = config(vision_lr=0.0)
    learnt, _, _ = open_splits(cfg, corpus, start_from(cfg, corpus, ("words",)).words)
    assert [group.name for group in groups_of(cfg, learnt)] == ["model"]


def test_validation_sees_every_place_and_the_same_words_hidden(corpus: Corpus) -> None:
    cfg = config()
    words = start_from(cfg, corpus, ("words",)).words
    learnt, validation, _ = open_splits(cfg, corpus, words)
    assert "kept_places" in learnt.training_batch([0, 1], seed=0, epoch=0)
    first, again = (validation.fixed_batch([0, 1]) for _ in range(2))
    assert "kept_places" not in first
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"longest": 50}, "shortest=32, longest=50: expected multiples of 32"),
        ({"shortest": 96}, "shortest=96, longest=64: expected multiples of 32, shortest at most longest"),
        ({"kept_places": 3}, "kept_places=3: expected at most the 2 of a picture's grid"),
        ({"vision_layers": "1,1,1"}, "vision_layers=1,1,1, vision_width=2: expected four stages"),
        ({"vision_milestones": "4;8"}, "vision_milestones=4;8: expected numbers joined by commas"),
        ({"clip": "RN50.pth"}, "clip=RN50.pth, bert=: expected both, or neither"),
        ({"clip": "RN50.pth", "bert": "b.bin", "weights": "m"}, "weights=m, clip=RN50.pth: expected one of them"),
        ({"steps": 0, "epochs": 2, "stop_epoch": 3}, "stop_epoch=3: expected at most epochs=2"),
        ({"model": "lxmert"}, "vision_width: of systems that read pictures; expected model=clip_vil"),
        ({"objectives": "words,objects"}, "objectives: found objects, model=clip_vil expects some of words"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**options)
