"""A fixed teacher is called once; its cached logits train the same student, and only as long as they are its own."""

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inputs.pixel_toy import write_question_corpus
from tests.recipes.test_finetune_pixels import config as pixel_config
from tests.recipes.test_finetune_pixels import start as pixel_start
from tests.recipes.toy import CallCounter, best_weights, distill
from tests.training.toy import Stopped, config, datasets_of, write_corpus
from vlx import checkpoints, tasks
from vlx.checkpoints import Loaded
from vlx.corpora import Corpus
from vlx.inputs.dataset import TaskDatasets, open_task_dataset
from vlx.inputs.regions import RegionInput
from vlx.objectives.supervised import logits_of
from vlx.recipes.build import new_task_model
from vlx.recipes.cached_logits import cached_teacher_logits, key_of
from vlx.recipes.distill import can_cache_logits, initial_student

TASK = tasks.load("nlvr2")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def teacher(corpus: Corpus) -> Loaded:
    return new_task_model(config(dropout=0.0), TASK, corpus)


@pytest.fixture
def datasets(corpus: Corpus, teacher: Loaded) -> TaskDatasets:
    return datasets_of(corpus, TASK, teacher, config())


def test_a_student_of_cached_logits_is_the_student_of_the_teacher(
    corpus: Corpus, teacher: Loaded, datasets: TaskDatasets, tmp_path: Path
) -> None:
    options = {"alpha": 1.0, "dropout": 0.0, "steps": 24, "work_dir": str(tmp_path), "eval_every": 24}
    cfg = config(**options)
    uncached_cfg = config(cache_logits=False, **options)
    cached, few_calls = distill(cfg, TASK, datasets, teacher, tmp_path / "cached")
    uncached, calls = distill(uncached_cfg, TASK, datasets, teacher, tmp_path / "uncached")
    assert (few_calls, calls) == (3, 24 + 1)  # one example, one batch of all 48, one of validation
    for step in range(2, 25, 2):
        assert cached.metrics[step]["train/kd"] == pytest.approx(uncached.metrics[step]["train/kd"], abs=2e-3)
    before = initial_student(cfg, TASK, corpus, teacher).model.state_dict()
    weights = best_weights(tmp_path / "uncached")
    change = max((weights[name] - before[name]).abs().max() for name in weights)
    for name, weight in best_weights(tmp_path / "cached").items():
        torch.testing.assert_close(weight, weights[name], atol=0.05 * float(change), rtol=0)
    reused, calls = distill(cfg, TASK, datasets, teacher, tmp_path / "reused")
    assert calls == 1 and reused.metrics[24]["train/loss"] == cached.metrics[24]["train/loss"]


def test_a_stopped_run_with_cached_logits_ends_in_the_same_bits(
    teacher: Loaded, datasets: TaskDatasets, tmp_path: Path
) -> None:
    cfg = config(alpha=1.0, work_dir=str(tmp_path / "first"))
    distill(cfg, TASK, datasets, teacher, tmp_path / "uninterrupted")
    cfg = dataclasses.replace(cfg, work_dir=str(tmp_path / "second"))
    with pytest.raises(Stopped):
        distill(cfg, TASK, datasets, teacher, tmp_path / "stopped", stop_after=5)
    shutil.rmtree(tmp_path / "second")  # cached logits may be deleted: they are computed again
    _, calls = distill(cfg, TASK, datasets, teacher, tmp_path / "stopped")
    expected = best_weights(tmp_path / "uninterrupted")
    assert calls == 3
    assert all(torch.equal(weight, expected[name]) for name, weight in best_weights(tmp_path / "stopped").items())


def test_the_file_holds_the_logits_of_every_example_in_half_precision(
    teacher: Loaded, datasets: TaskDatasets, tmp_path: Path
) -> None:
    logits = cached_teacher_logits(teacher.model, datasets.train, tmp_path)
    assert isinstance(logits, np.memmap) and logits.dtype == np.float16 and logits.shape == (48, 2)
    expected = logits_of(teacher.model.eval(), datasets.train.batch(range(48))).detach()
    torch.testing.assert_close(torch.tensor(np.array(logits)).float(), expected, atol=2e-3, rtol=1e-3)
    batch = datasets.train.with_teacher_logits(logits).training_batch([7, 3], seed=0, epoch=0)
    assert torch.equal(batch["teacher_logits"], torch.tensor(np.array(logits[[7, 3]])).float())
    assert "teacher_logits" not in datasets.train.training_batch([7, 3], seed=0, epoch=0)


def test_anything_that_changes_the_teachers_outputs_makes_another_file(
    corpus: Corpus, teacher: Loaded, datasets: TaskDatasets, tmp_path: Path
) -> None:
    changed = copy.deepcopy(teacher.model)
    with torch.no_grad():
        changed.classifier[-1].bias[0] += 1e-3
    other_heads = copy.deepcopy(teacher.model)
    other_heads.config.num_attention_heads = 4
    shorter = [
        open_task_dataset(
            corpus, TASK, "train", teacher.wordpiece, RegionInput(corpus, max_regions),
            max_text_tokens=max_text_tokens, object_tags=False,
        )
        for max_text_tokens, max_regions in ((9, 40), (55, 2))
    ]  # fmt: skip
    foreign = datasets_of(write_corpus(tmp_path / "other", seed=1), TASK, teacher, config()).train
    splits = [datasets.train, datasets.validation, *shorter, foreign]
    keys = [key_of(teacher.model, split) for split in splits]
    keys += [key_of(model, datasets.train) for model in (changed, other_heads)]
    assert len(set(keys)) == len(keys)
    assert key_of(copy.deepcopy(teacher.model), datasets.train) == keys[0]
    first = np.array(cached_teacher_logits(teacher.model, datasets.train, tmp_path))
    calls = CallCounter(teacher.model)
    assert (cached_teacher_logits(changed, datasets.train, tmp_path) != first).any()
    assert (cached_teacher_logits(teacher.model, datasets.train, tmp_path) == first).all() and calls.count == 0
    assert len(list(tmp_path.glob("logits-*/logits.npy"))) == 2


def test_images_read_at_another_size_make_another_file(tmp_path: Path) -> None:
    """Frames of 32 x 128 and 64 x 64 pixels have four grid features each."""
    corpus = write_question_corpus(tmp_path / "corpus")
    sizes = ({"image_min_size": 32, "image_max_size": 128}, {"image_min_size": 64, "image_max_size": 64})
    loaded, first = pixel_start(pixel_config(**sizes[0]), corpus)
    _, second = pixel_start(pixel_config(**sizes[1]), corpus)
    assert np.array_equal(first.test.lengths, second.test.lengths)
    assert key_of(loaded.model, first.test) != key_of(loaded.model, second.test)


def test_a_saved_teacher_finds_the_logits_of_another_copy(
    teacher: Loaded, datasets: TaskDatasets, tmp_path: Path
) -> None:
    folders = [checkpoints.save(tmp_path / name, teacher) for name in ("a", "b")]
    first, second = (key_of(checkpoints.load(folder).model, datasets.train) for folder in folders)
    assert first == second


def test_a_killed_pass_leaves_no_file(teacher: Loaded, datasets: TaskDatasets, tmp_path: Path) -> None:
    def kill(module: torch.nn.Module, inputs: tuple[dict[str, torch.Tensor]]) -> None:
        if len(inputs[0]["input_ids"]) > 1:  # the pass over all examples, after that over the longest
            raise KeyboardInterrupt

    hook = teacher.model.register_forward_pre_hook(kill)
    with pytest.raises(KeyboardInterrupt):
        cached_teacher_logits(teacher.model, datasets.train, tmp_path)
    hook.remove()
    assert not list(tmp_path.glob("logits-*/*.npy"))
    assert np.isfinite(cached_teacher_logits(teacher.model, datasets.train, tmp_path)).all()


def test_logits_are_cached_only_where_a_teacher_reads_the_same_inputs_again(
    teacher: Loaded, datasets: TaskDatasets
) -> None:
    train = datasets.train
    assert can_cache_logits(config(steps=12), train, teacher)  # 12 x 8 are 48 examples twice
    assert not can_cache_logits(config(steps=11), train, teacher)
    for options in ({"cache_logits": False}, {"reptile": True}, {"method": "mkd"}, {"method": "pkd"}):
        assert not can_cache_logits(config(**options), train, teacher)
    assert not can_cache_logits(config(model="clip_vil", sampled_grid_features=1), train, teacher)
    for name in ("retrieval", "nlvr"):
        assert not can_cache_logits(config(steps=12), dataclasses.replace(train, task=tasks.load(name)), teacher)
