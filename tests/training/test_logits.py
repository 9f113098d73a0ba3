"""A frozen teacher is asked once; its kept logits teach as it does, and only as long as they are its own."""

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from vlx.training.batching import Data, open_data, open_split
from vlx.training.logits import kept_logits, key_of
from vlx.training.recipes import keeps_logits, new_model, train_student

from tests.training.toy import Recorder, Stopped, config, write_corpus
from vlx import checkpoints, tasks
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus
from vlx.objectives.supervised import logits_of
from vlx.training import recipes

TASK = tasks.load("nlvr2")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def setting(corpus: Corpus) -> tuple[Loaded, Data]:
    teacher = new_model(config(dropout=0.0), TASK, corpus)
    return teacher, open_data(corpus, TASK, teacher.words, config())


class Asked:
    """Counts how often a model is asked."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.count = 0
        model.register_forward_hook(self)

    def __call__(self, *_: object) -> None:
        self.count += 1


def distilled(
    cfg: DistillConfig, setting: tuple[Loaded, Data], folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int = 0
) -> tuple[dict[str, torch.Tensor], int, Recorder]:
    """Weights after the last step, how often the teacher was asked, and the curves; nothing is published."""
    teacher, data = setting
    own, run, found = dataclasses.replace(teacher, model=copy.deepcopy(teacher.model)), Recorder(stop or None), {}
    run.folder = folder
    asked = Asked(own.model)
    monkeypatch.setattr(recipes, "publish", lambda run, learner, *_, **__: found.update(learner.model.state_dict()))
    train_student(cfg, TASK, data, own, run, {})
    return found, asked.count, run


def test_a_student_of_kept_logits_is_the_student_of_the_teacher(
    setting: tuple[Loaded, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"alpha": 1.0, "dropout": 0.0, "steps": 24, "work_dir": str(tmp_path), "eval_every": 24}
    with_cache, once, run = distilled(config(**options), setting, tmp_path / "a", monkeypatch)
    without, often, plain = distilled(config(cache=False, **options), setting, tmp_path / "b", monkeypatch)
    assert (once, often) == (1 + 1, 24 + 1)  # 48 examples are one batch of the pass, those of validation another
    for step, values in plain.metrics.items():
        assert run.metrics[step]["train/kd"] == pytest.approx(values["train/kd"], abs=2e-3)
    start = recipes.start_student(config(**options), TASK, setting[1], setting[0]).model.state_dict()
    moved = max((without[name] - start[name]).abs().max() for name in start)
    for name, weight in with_cache.items():
        torch.testing.assert_close(weight, without[name], atol=0.05 * float(moved), rtol=0)
    _, again, same = distilled(config(**options), setting, tmp_path / "c", monkeypatch)
    assert again == 1 and same.metrics[24]["train/loss"] == run.metrics[24]["train/loss"]


def test_a_stopped_run_with_kept_logits_goes_on_to_the_same_bits(
    setting: tuple[Loaded, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(alpha=1.0, work_dir=str(tmp_path / "whole"))
    whole, _, _ = distilled(cfg, setting, tmp_path / "a", monkeypatch)
    cfg = dataclasses.replace(cfg, work_dir=str(tmp_path / "parts"))
    with pytest.raises(Stopped):
        distilled(cfg, setting, tmp_path / "b", monkeypatch, stop=5)
    shutil.rmtree(tmp_path / "parts")  # whoever clears the kept logits loses time alone
    parts, asked, _ = distilled(cfg, setting, tmp_path / "b", monkeypatch)
    assert asked == 2 and all(torch.equal(weight, whole[name]) for name, weight in parts.items())


def test_the_file_holds_the_logits_of_every_example_in_half_precision(
    setting: tuple[Loaded, Data], tmp_path: Path
) -> None:
    teacher, data = setting
    found = kept_logits(teacher.model, data.train, tmp_path)
    assert isinstance(found, np.memmap) and found.dtype == np.float16 and found.shape == (48, 2)
    wanted = logits_of(teacher.model.eval(), data.train.batch(range(48))).detach()
    torch.testing.assert_close(torch.tensor(np.array(found)).float(), wanted, atol=2e-3, rtol=1e-3)
    kept = dataclasses.replace(data.train, taught=found)
    batch = kept.training_batch([7, 3], seed=0, epoch=0)
    assert torch.equal(batch["taught"], torch.tensor(np.array(found[[7, 3]])).float())
    assert "taught" not in data.train.training_batch([7, 3], seed=0, epoch=0)


def test_anything_that_changes_what_the_teacher_says_makes_another_file(
    setting: tuple[Loaded, Data], corpus: Corpus, tmp_path: Path
) -> None:
    teacher, data = setting
    changed = copy.deepcopy(teacher.model)
    with torch.no_grad():
        changed.classifier[-1].bias[0] += 1e-3
    other_heads = copy.deepcopy(teacher.model)
    other_heads.config.num_attention_heads = 4
    cut = {"max_text_tokens": 9, "max_regions": 40}, {"max_text_tokens": 55, "max_regions": 2}
    shorter = [open_split(corpus, TASK, "train", teacher.words, tags=False, **lengths) for lengths in cut]
    foreign = open_data(write_corpus(tmp_path / "other", seed=1), TASK, teacher.words, config()).train
    splits = [data.train, data.validation, *shorter, foreign]
    keys = [key_of(teacher.model, split) for split in splits]
    keys += [key_of(model, data.train) for model in (changed, other_heads)]
    assert len(set(keys)) == len(keys)
    assert key_of(copy.deepcopy(teacher.model), data.train) == keys[0]
    first = np.array(kept_logits(teacher.model, data.train, tmp_path))
    asked = Asked(teacher.model)
    assert (kept_logits(changed, data.train, tmp_path) != first).any()
    assert (kept_logits(teacher.model, data.train, tmp_path) == first).all() and asked.count == 0
    assert len(list(tmp_path.glob("logits-*/logits.npy"))) == 2


def test_a_saved_teacher_finds_what_another_copy_of_it_kept(setting: tuple[Loaded, Data], tmp_path: Path) -> None:
    teacher, data = setting
    keys = []
    for name in ("a", "b"):
        checkpoints.save(tmp_path / name, teacher.model, teacher.tokenizer, teacher.meta)
        keys.append(key_of(checkpoints.load(tmp_path / name).model, data.train))
        shutil.rmtree(tmp_path / name)
    assert keys[0] == keys[1]


def test_a_killed_pass_leaves_nothing_that_counts(
    setting: tuple[Loaded, Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, data = setting
    with monkeypatch.context() as patch:
        patch.setattr("vlx.training.logits.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            kept_logits(teacher.model, data.train, tmp_path)
    assert not list(tmp_path.glob("logits-*/*.npy"))
    assert np.isfinite(kept_logits(teacher.model, data.train, tmp_path)).all()


def test_logits_are_kept_only_where_the_teacher_would_say_the_same_again(setting: tuple[Loaded, Data]) -> None:
    teacher, train = setting[0].model, setting[1].train
    assert keeps_logits(config(steps=12), TASK, train, teacher)  # 12 x 8 are 48 examples twice
    assert not keeps_logits(config(steps=11), TASK, train, teacher)
    for options in ({"cache": False}, {"reptile": True}, {"method": "mkd"}, {"method": "pkd"}):
        assert not keeps_logits(config(**options), TASK, train, teacher)
    for name in ("retrieval", "nlvr"):
        assert not keeps_logits(config(steps=12), tasks.load(name), train, teacher)
