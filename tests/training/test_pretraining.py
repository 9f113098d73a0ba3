"""What a stage of pre-training shows, learns and hands on."""

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from vlx.objectives.stages import pretraining
from vlx.training.pairs import Pairs
from vlx.training.recipes import start_from

from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints, models, synthetic, tasks
from vlx.config import FinetuneConfig, PretrainConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.training import pretraining as stages
from vlx.training.loop import fit

SMALL = {"hidden_size": 16, "layers": 2, "region_layers": 1, "cross_layers": 1, "heads": 2, "intermediate_size": 16}
SHORT = {"steps": 9, "warmup_steps": 2, "batch_size": 32, "dropout": 0.1, "precision": "fp32", "max_text_tokens": 24}
OFTEN = {"eval_every": 4, "checkpoint_every": 3, "log_every": 2, "val_images": 4, "test_images": 4}
SYSTEMS = ("lxmert", "vilbert", "oscar")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """120 sentences about 9 pictures."""
    yield synthetic.build(tmp_path_factory.mktemp("corpora") / "synthetic", task="pretrain", size=120)


def config(model: str, **options: object) -> PretrainConfig:
    return PretrainConfig(**(SMALL | SHORT | OFTEN | {"model": model} | options))


def opened(corpus: Corpus, model: str, **options: object) -> Pairs:
    cfg = config(model, **options)
    return stages.open_splits(cfg, corpus, stages.vocabulary(cfg, corpus))[0]


@pytest.mark.parametrize("model", SYSTEMS)
def test_what_is_hidden_is_of_seed_epoch_and_example_in_any_batch(corpus: Corpus, model: str) -> None:
    pairs = opened(corpus, model)
    many = pairs.training_batch([5, 40, 7], seed=1, epoch=2)
    alone = pairs.training_batch([40], seed=1, epoch=2)
    for name in alone.keys() - {"word_places", "layout"}:
        one, other = (
            many[name][1].reshape(-1, *many[name].shape[2:]),
            alone[name][0].reshape(-1, *alone[name].shape[2:]),
        )
        assert torch.equal(one[: len(other)], other), name  # then padding
    ids = [pairs.training_batch(range(60), seed=s, epoch=e)["input_ids"].tolist() for s, e in ((1, 2), (1, 3), (2, 2))]
    assert ids[0] != ids[1] and ids[0] != ids[2]
    assert torch.equal(pairs.fixed_batch([3])["input_ids"], pairs.fixed_batch([3])["input_ids"])


def test_a_swapped_text_is_another_pictures_and_asks_for_no_answer(corpus: Corpus) -> None:
    pairs = opened(corpus, "lxmert", word_mask=0.0, max_text_tokens=55)
    batch = pairs.training_batch(range(len(pairs)), seed=0, epoch=0)
    matched = batch["matched_labels"]
    assert 0.35 < matched.float().mean() < 0.65
    own = [pairs.tokenizer.join(text.words)[0] for text in pairs.texts]
    by_words: dict[tuple[int, ...], set[str]] = {}
    for text, ids in zip(pairs.texts, own, strict=True):
        by_words.setdefault(tuple(ids), set()).add(text.image_id)
    for index, text in enumerate(pairs.texts):
        shown = tuple(batch["input_ids"][index][batch["text_mask"][index]].tolist())
        if matched[index]:
            assert list(shown) == own[index]
        else:
            assert by_words[shown] - {text.image_id}, "a text of another picture"
            assert batch["answer_labels"][index] == -1
    answered = {index for index, text in enumerate(pairs.texts) if text.answers and matched[index]}
    assert answered and all(batch["answer_labels"][index].item() in pairs.texts[index].answers for index in answered)
    assert not opened(corpus, "lxmert", objectives="words").hiding.swapped


def test_shares_of_hidden_words_and_regions_are_those_asked_for(corpus: Corpus) -> None:
    pairs = opened(corpus, "lxmert", word_mask=0.4, region_mask=0.5)
    words, regions, cleared = [], [], 0
    for epoch in range(20):
        batch = pairs.training_batch(range(len(pairs)), seed=0, epoch=epoch)
        inside = batch["text_mask"].sum() - 2 * len(pairs)
        words.append(len(batch["word_places"]) / float(inside))
        hidden, there = batch["masked_regions"] & batch["region_mask"], batch["region_mask"].sum()
        regions.append(float(hidden.sum() / there))
        cleared += int(((batch["regions"] == 0).all(-1) & batch["region_mask"]).sum())
        moved = (batch["regions"] != batch["region_targets"]).any(-1)
        assert not (moved & ~batch["masked_regions"]).any()
        assert (batch["object_labels"][batch["region_mask"]] >= 0).all()
        assert (batch["object_labels"][~batch["region_mask"]] == -1).all()
    assert np.mean(words) == pytest.approx(0.4, abs=0.02) and np.mean(regions) == pytest.approx(0.5, abs=0.03)
    assert cleared > 0


def test_vilbert_hides_what_overlaps_and_counts_what_is_left(corpus: Corpus) -> None:
    pairs = opened(corpus, "vilbert", region_mask=0.3, only_matched=True)
    batch = pairs.training_batch(range(len(pairs)), seed=0, epoch=0)
    gone = (batch["regions"] == 0).all(-1) & batch["region_mask"]
    assert torch.equal(gone, ~batch["counted_mask"] & batch["region_mask"]) and gone.any()
    other = batch["matched_labels"] == 0
    assert not batch["masked_regions"][other].any() and (batch["word_labels"][other] == -1).all()
    classes = batch["region_targets"][batch["region_mask"]]
    torch.testing.assert_close(classes.sum(-1), torch.ones(len(classes)))
    assert classes.shape[1] == corpus.classes("objects_id") + 1
    nce = opened(corpus, "vilbert", visual_target=2, negatives=10).training_batch([1, 50, 70], seed=0, epoch=0)
    assert nce["negatives"].shape == (*nce["masked_regions"].shape, 10)


def test_oscar_is_shown_anothers_text_or_anothers_tags(corpus: Corpus) -> None:
    pairs = opened(corpus, "oscar", word_mask=0.0, max_text_tokens=55)
    batch = pairs.training_batch(range(len(pairs)), seed=0, epoch=0)
    assert set(batch["matched_labels"].tolist()) == {0, 1, 2}
    for index in (batch["matched_labels"] == 2).nonzero().flatten().tolist():
        ids, segments = (batch[name][index][batch["text_mask"][index]] for name in ("input_ids", "token_type_ids"))
        assert ids[segments == 0].tolist() == pairs.tokenizer.join(pairs.texts[index].words)[0]
    without = opened(corpus, "oscar", tags=False).training_batch(range(len(pairs)), seed=0, epoch=0)
    assert set(without["matched_labels"].tolist()) == {0, 1} and "token_type_ids" not in without


def stage(corpus: Corpus, cfg: PretrainConfig, folder: Path, run: Recorder) -> torch.nn.Module:
    names = stages.objectives_of(cfg, corpus)
    start = stages.start_from(cfg, corpus, names)
    train, held_out, _ = stages.open_splits(cfg, corpus, start.words)
    objective = pretraining(cfg.model, names, weights={}, visual_target=cfg.visual_target)
    validate = stages.validator(objective, names, {}, held_out)
    fit(start.model, objective, train, validate, cfg, run, folder=folder, title="toy", metric=stages.METRIC)
    return start.model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options"), [("lxmert", {}), ("vilbert", {"visual_target": 2, "negatives": 10}), ("oscar", {})]
)
def test_a_stage_that_was_stopped_in_an_epoch_ends_in_the_same_bits(
    corpus: Corpus, model: str, options: dict, tmp_path: Path
) -> None:
    """Four steps an epoch; stopped after step 5, it goes on from the checkpoint of step 3."""
    cfg = config(model, accumulation=2, **options)
    record, runs = Recorder(), [Recorder(5), Recorder()]
    whole = stage(corpus, cfg, tmp_path / "whole", record)
    with pytest.raises(Stopped):
        stage(corpus, cfg, tmp_path / "parts", runs[0])
    torch.rand(3)
    again = stage(corpus, cfg, tmp_path / "parts", runs[1])
    assert same_weights(whole, again)
    changing = {"train/examples_per_second", "train/padding_share"}
    for step, values in (runs[0].metrics | runs[1].metrics).items():
        assert {k: v for k, v in values.items() if k not in changing} == {
            k: v for k, v in record.metrics[step].items() if k not in changing
        }, step
    names = stages.objectives_of(cfg, corpus)
    assert {f"val/{name}" for name in (*names, "words_accuracy", "perplexity", "loss")} <= record.metrics[4].keys()
    assert {f"train/{name}" for name in (*names, "matched_accuracy", "lr", "padding_share")} <= record.metrics[2].keys()


def test_validation_does_not_depend_on_the_size_of_its_batches(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config("lxmert")
    names = stages.objectives_of(cfg, corpus)
    start = stages.start_from(cfg, corpus, names)
    objective = pretraining("lxmert", names, weights={"answers": 2.0})
    found = []
    for size in (128, 7):
        monkeypatch.setattr(stages, "EVAL_BATCH", size)
        held_out = stages.open_splits(cfg, corpus, start.words)[1]
        found.append(stages.validator(objective, names, {"answers": 2.0}, held_out)(start.model))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0]["loss"] == pytest.approx(sum(found[0][name] for name in (*names, "answers")))
    assert found[0][stages.METRIC] == -found[0]["loss"]


def test_without_labels_an_objective_is_left_out_or_refused(corpus: Corpus, tmp_path: Path) -> None:
    assert stages.objectives_of(config("lxmert"), corpus) == (
        "words", "matched", "objects", "attributes", "features", "answers",
    )  # fmt: skip
    plain = synthetic.build(tmp_path / "captions", task="retrieval", size=20)
    cfg = config("lxmert", task="retrieval")
    assert stages.objectives_of(cfg, plain) == ("words", "matched", "features")
    with pytest.raises(ConfigError, match="objectives: answers: .* has no answers of questions to learn"):
        stages.objectives_of(dataclasses.replace(cfg, objectives="words,answers"), plain)
    assert stages.objectives_of(config("vilbert", task="retrieval"), plain) == ("words", "matched")
    assert stages.objectives_of(config("vilbert", task="retrieval", visual_target=1), plain)[-1] == "regions"


def test_every_picture_of_a_statement_makes_a_pair(tmp_path: Path) -> None:
    statements = synthetic.build(tmp_path / "nlvr2", task="nlvr2", size=20)
    pairs = opened(statements, "oscar", task="nlvr2")
    assert len(pairs) == 40 and len({text.identifier for text in pairs.texts}) == 40
    assert [text.image_id for text in pairs.texts[:2]] == statements.examples("nlvr2", "train")[0]["image_ids"]


def test_objectives_and_their_weights_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="objectives: found answers, model=oscar expects some of words, matched"):
        config("oscar", objectives="words,answers")
    with pytest.raises(ConfigError, match="loss_weights: answers=much: expected a number"):
        config("lxmert", loss_weights="answers=much")
    with pytest.raises(ConfigError, match="fixed_text_layers=1: expected model=vilbert"):
        config("oscar", fixed_text_layers=1)
    assert config("lxmert", loss_weights="answers=2,words=0.5").weighed() == {"answers": 2.0, "words": 0.5}


def saved(corpus: Corpus, folder: Path, model: str, **options: object) -> tuple[Path, torch.nn.Module]:
    cfg = config(model, **options)
    loaded = stages.start_from(cfg, corpus, stages.objectives_of(cfg, corpus))
    return checkpoints.save(folder, loaded.model, loaded.tokenizer, loaded.meta), loaded.model


def test_stage_two_goes_on_from_stage_one_with_a_new_answer_head(corpus: Corpus, tmp_path: Path) -> None:
    folder, first = saved(corpus, tmp_path / "one", "lxmert", objectives="words,matched,objects")
    assert not hasattr(first, "answer_head")
    cfg = config("lxmert", weights=str(folder), seed=3)
    second, table = stages.start_from(cfg, corpus, stages.objectives_of(cfg, corpus)), corpus.answers("pretrain")
    assert second.meta["stage"] == 2 and second.model.answer_head.logit_fc[3].weight.shape[0] == len(table)
    kept = {name: tensor for name, tensor in first.state_dict().items() if name in second.model.state_dict()}
    assert len(kept) == len(first.state_dict())
    assert all(torch.equal(second.model.state_dict()[name], tensor) for name, tensor in kept.items())
    words = checkpoints.save(tmp_path / "two", second.model, second.tokenizer, second.meta | {"answers": table[::-1]})
    third = stages.start_from(dataclasses.replace(cfg, weights=str(words)), corpus, second.meta["objectives"])
    rows = [stage.model.answer_head.logit_fc[3].weight for stage in (second, third)]
    assert torch.equal(rows[0].flip(0), rows[1]), "another table: each answer keeps its row"
    with pytest.raises(ConfigError, match="of lxmert, expected model=vilbert"):
        stages.start_from(config("vilbert", weights=str(folder)), corpus, ("words",))


@pytest.mark.parametrize("model", SYSTEMS)
def test_fine_tuning_starts_from_the_pre_trained_trunk_and_its_words(
    corpus: Corpus, model: str, tmp_path: Path
) -> None:
    folder, trained = saved(corpus, tmp_path / "model", model)
    questions = synthetic.build(tmp_path / "vqa", task="vqa", size=20)
    task = tasks.load("vqa", questions.answers("vqa"))
    cfg = FinetuneConfig(task="vqa", model=model, weights=str(folder), max_text_tokens=24)
    start = start_from(cfg, task, questions)
    trunk = {name: tensor for name, tensor in start.model.state_dict().items() if name.startswith("bert.")}
    assert trunk and all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in trunk.items())
    assert len(start.words) == trained.config.vocab_size
    with pytest.raises(ConfigError, match="max_text_tokens=55: .* reads 24 tokens at most; give max_text_tokens=24"):
        start_from(dataclasses.replace(cfg, max_text_tokens=55), task, questions)


def test_the_answer_head_is_taken_by_answer(corpus: Corpus, tmp_path: Path) -> None:
    folder, trained = saved(corpus, tmp_path / "model", "lxmert")
    table, answers = corpus.answers("pretrain"), ("blue", "never heard", "Two", "no")
    task = tasks.load("vqa", answers)
    cfg = FinetuneConfig(task="vqa", model="lxmert", weights=str(folder), load_qa_head=True, max_text_tokens=24)
    head, given = start_from(cfg, task, corpus).model.logit_fc, trained.answer_head.logit_fc
    assert torch.equal(head[0].weight, given[0].weight) and torch.equal(head[2].bias, given[2].bias)
    assert torch.equal(head[3].weight[0], given[3].weight[table.index("blue")])
    assert torch.equal(head[3].bias[2], given[3].bias[table.index("2")]) and not head[3].weight[1].any()
    folder, _ = saved(corpus, tmp_path / "oscar", "oscar")
    with pytest.raises(ConfigError, match="expected weights with an answer head"):
        start_from(dataclasses.replace(cfg, model="oscar", weights=str(folder)), task, corpus)
    with pytest.raises(ConfigError, match="expected weights too"):
        FinetuneConfig(load_qa_head=True)


def test_vilberts_first_text_layers_can_stay_as_they_are(corpus: Corpus) -> None:
    cfg = config("vilbert", layers=3, fixed_text_layers=2)
    names = stages.objectives_of(cfg, corpus)
    start = stages.start_from(cfg, corpus, names)
    batch = stages.open_splits(cfg, corpus, start.words)[0].training_batch(range(8), seed=0, epoch=0)
    pretraining("vilbert", names, weights={})(start.model, batch).total.backward()
    layers = [all(weight.grad is None for weight in layer.parameters()) for layer in start.model.bert.encoder.layer]
    assert layers == [True, True, False]
    with pytest.raises(ConfigError, match="fixed_t_layer=3: expected at most the first bridge's place, 2"):
        stages.start_from(dataclasses.replace(cfg, fixed_text_layers=3), corpus, names)


def test_weights_that_do_not_fit_are_refused_not_left_out() -> None:
    sizes = models.Sizes(20, 12, 6, 16, 2, 1, 1, 2, 16, 0.1, 0.0, 0.0, "linear")
    small = models.for_pretraining("oscar", models.Targets(), sizes, seed=0)
    wider = copy.deepcopy(small)
    wider.config.vocab_size = 30
    with pytest.raises(RuntimeError, match="bert.embeddings.word_embeddings.weight"):
        models.for_pretraining("oscar", models.Targets(), wider, seed=0)
