"""Stages of pre-training on regions: objectives, resumption, weights handed from stage to stage and to fine-tuning."""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.recipes.pretraining_toy import (
    assert_equal_metrics,
    config,
    objective_of,
    open_splits,
    save_new,
    start,
    train_stage,
    validator_of,
)
from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints, synthetic, tasks
from vlx.config import FinetuneConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.evaluation.pretraining import METRIC
from vlx.models.create import for_pretraining
from vlx.models.heads import PretrainingSizes
from vlx.models.spec import load_spec
from vlx.recipes import build
from vlx.recipes.pretrain import objectives_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """120 sentences about 9 images."""
    yield synthetic.build(tmp_path_factory.mktemp("corpora") / "synthetic", task="pretrain", size=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options"), [("lxmert", {}), ("vilbert", {"mrm_loss": "nce", "nce_negatives": 10}), ("oscar", {})]
)
def test_a_stage_that_was_stopped_in_an_epoch_ends_in_the_same_bits(
    corpus: Corpus, model: str, options: dict, tmp_path: Path
) -> None:
    """Four steps an epoch; stopped after step 5, it resumes from the checkpoint of step 3."""
    cfg = config(model, accumulation=2, **options)
    uninterrupted, stopped, resumed = Recorder(), Recorder(5), Recorder()
    expected = train_stage(cfg, corpus, tmp_path / "uninterrupted", uninterrupted)
    with pytest.raises(Stopped):
        train_stage(cfg, corpus, tmp_path / "stopped", stopped)
    torch.rand(3)  # a new process would have another generator state
    actual = train_stage(cfg, corpus, tmp_path / "stopped", resumed)
    assert same_weights(expected.model, actual.model)
    assert_equal_metrics(stopped, uninterrupted)
    assert_equal_metrics(resumed, uninterrupted)
    names = objectives_of(cfg, corpus)
    validation = {f"val/{name}" for name in (*names, "mlm_accuracy", "perplexity", "loss")}
    assert validation <= uninterrupted.metrics[4].keys()
    training = {f"train/{name}" for name in (*names, "itm_accuracy", "lr", "padding_share")}
    assert training <= uninterrupted.metrics[2].keys()


def test_validation_does_not_depend_on_the_size_of_its_batches(corpus: Corpus) -> None:
    cfg = config("lxmert", loss_weights="qa=2")
    loaded = start(cfg, corpus)
    validation = open_splits(cfg, corpus, loaded.wordpiece)[1]
    whole, in_parts = (validator_of(cfg, corpus, validation, batch_size=size)(loaded.model) for size in (128, 7))
    assert whole == pytest.approx(in_parts, rel=1e-4)
    names = (*objectives_of(cfg, corpus), "qa")  # qa counts twice
    assert whole["loss"] == pytest.approx(sum(whole[name] for name in names))
    assert whole[METRIC] == -whole["loss"]


def test_an_objective_without_labels_is_left_out_or_refused(corpus: Corpus, tmp_path: Path) -> None:
    names = ("mlm", "itm", "mrc_objects", "mrc_attributes", "mrfr", "qa")
    assert objectives_of(config("lxmert"), corpus) == names
    captions = synthetic.build(tmp_path / "captions", task="retrieval", size=20)
    cfg = config("lxmert", task="retrieval")
    assert objectives_of(cfg, captions) == ("mlm", "itm", "mrfr")
    with pytest.raises(ConfigError, match="objectives: qa: .* has no answers to train on"):
        objectives_of(dataclasses.replace(cfg, objectives="mlm,qa"), captions)
    assert objectives_of(config("vilbert", task="retrieval"), captions) == ("mlm", "itm")
    assert objectives_of(config("vilbert", task="retrieval", mrm_loss="mse"), captions)[-1] == "mrm"
    with pytest.raises(ConfigError, match="objectives: mrm: .* has no region classes to train on"):
        objectives_of(config("vilbert", task="retrieval", objectives="mrm"), captions)


def test_weights_of_losses_are_checked_and_read() -> None:
    with pytest.raises(ConfigError, match="loss_weights: qa=much: expected a number"):
        config("lxmert", loss_weights="qa=much")
    assert config("lxmert", loss_weights="qa=2,mlm=0.5").loss_weight_by_objective() == {"qa": 2.0, "mlm": 0.5}


def test_stage_two_starts_from_stage_one_with_a_new_answer_head(corpus: Corpus, tmp_path: Path) -> None:
    folder, first = save_new(corpus, tmp_path / "one", "lxmert", objectives="mlm,itm,mrc_objects")
    assert not hasattr(first, "answer_head")
    cfg = config("lxmert", weights=str(folder), seed=3)
    second = start(cfg, corpus)
    table = corpus.answers("pretrain")
    assert second.preprocessing.stage == 2 and second.model.answer_head.logit_fc[3].weight.shape[0] == len(table)
    weights = second.model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in first.state_dict().items())

    reversed_table = dataclasses.replace(second.preprocessing, answers=tuple(table[::-1]))
    folder_of_two = checkpoints.save(tmp_path / "two", dataclasses.replace(second, preprocessing=reversed_table))
    third = start(dataclasses.replace(cfg, weights=str(folder_of_two)), corpus)
    rows = [stage.model.answer_head.logit_fc[3].weight for stage in (second, third)]
    assert torch.equal(rows[0].flip(0), rows[1]), "another table: each answer has its row"
    with pytest.raises(ConfigError, match="model=vilbert: .* is of lxmert; give model=lxmert"):
        start(config("vilbert", weights=str(folder), objectives="mlm"), corpus)


@pytest.mark.parametrize("model", ["lxmert", "vilbert", "oscar"])
def test_fine_tuning_starts_from_the_pre_trained_trunk_and_vocabulary(
    corpus: Corpus, model: str, tmp_path: Path
) -> None:
    folder, pretrained = save_new(corpus, tmp_path / "model", model)
    questions = synthetic.build(tmp_path / "vqa", task="vqa", size=20)
    task = tasks.load("vqa", questions.answers("vqa"))
    cfg = FinetuneConfig(task="vqa", model=model, weights=str(folder), max_text_tokens=24)
    loaded = build.start_from(cfg, task, questions)
    trunk = {name: tensor for name, tensor in loaded.model.state_dict().items() if name.startswith("bert.")}
    weights = pretrained.state_dict()
    assert trunk and all(torch.equal(tensor, weights[name]) for name, tensor in trunk.items())
    assert len(loaded.wordpiece) == pretrained.config.vocab_size
    with pytest.raises(ConfigError, match="max_text_tokens=55: .* reads 24 tokens at most; give max_text_tokens=24"):
        build.start_from(dataclasses.replace(cfg, max_text_tokens=55), task, questions)


def test_the_answer_head_is_initialized_by_answer(corpus: Corpus, tmp_path: Path) -> None:
    folder, pretrained = save_new(corpus, tmp_path / "model", "lxmert")
    table = corpus.answers("pretrain")
    task = tasks.load("vqa", ("blue", "never heard", "Two", "no"))
    cfg = FinetuneConfig(task="vqa", model="lxmert", weights=str(folder), load_qa_head=True, max_text_tokens=24)
    head = build.start_from(cfg, task, corpus).model.logit_fc
    source = pretrained.answer_head.logit_fc
    assert torch.equal(head[0].weight, source[0].weight) and torch.equal(head[2].bias, source[2].bias)
    assert torch.equal(head[3].weight[0], source[3].weight[table.index("blue")])
    assert torch.equal(head[3].bias[2], source[3].bias[table.index("2")]) and not head[3].weight[1].any()
    folder, _ = save_new(corpus, tmp_path / "oscar", "oscar")
    with pytest.raises(ConfigError, match="expected weights with an answer head"):
        build.start_from(dataclasses.replace(cfg, model="oscar", weights=str(folder)), task, corpus)
    with pytest.raises(ConfigError, match="expected weights too"):
        FinetuneConfig(load_qa_head=True)


def test_vilberts_first_text_layers_can_be_frozen(corpus: Corpus) -> None:
    cfg = config("vilbert", layers=3, frozen_text_layers=2)
    loaded = start(cfg, corpus)
    batch = open_splits(cfg, corpus, loaded.wordpiece)[0].training_batch(range(8), seed=0, epoch=0)
    objective_of(cfg, corpus)(loaded.model, batch).total.backward()
    layers = loaded.model.bert.encoder.layer
    frozen = [all(weight.grad is None for weight in layer.parameters()) for layer in layers]
    assert frozen == [True, True, False]
    with pytest.raises(ConfigError, match="fixed_t_layer=3: expected at most the first bridge's layer, 2"):
        start(dataclasses.replace(cfg, frozen_text_layers=3), corpus)


def test_weights_that_do_not_fit_are_refused_not_left_out(corpus: Corpus) -> None:
    spec = load_spec("oscar")
    small = start(config("oscar"), corpus).model
    assert same_weights(for_pretraining(spec, PretrainingSizes(), small, seed=0), small)
    wider = copy.deepcopy(small)
    wider.config.vocab_size += 10
    with pytest.raises(RuntimeError, match="bert.embeddings.word_embeddings.weight"):
        for_pretraining(spec, PretrainingSizes(), wider, seed=0)
