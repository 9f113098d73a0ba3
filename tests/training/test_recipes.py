"""Students of another width, and of examples whose labels they do not see."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from vlx.training.batching import Data, open_data
from vlx.training.recipes import new_model, obtain_teacher, start_student, train_baseline, train_student

from tests.training.toy import Recorder, Stopped, config, write_corpus
from vlx import tasks
from vlx.checkpoints import Loaded
from vlx.errors import ConfigError
from vlx.training import recipes

TASK = tasks.load("nlvr2")
NARROW = {"student_hidden_size": 8, "student_init": "random"}
FEW = {"unlabelled": True, "train_examples": 8}
Weights = dict[str, torch.Tensor]


def setting(folder: Path, **options: Any) -> tuple[Loaded, Data]:
    corpus = write_corpus(folder / "corpus")
    teacher = new_model(config(**options), TASK, corpus)
    return teacher, open_data(corpus, TASK, teacher.words, config(**options))


def distilled(folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int | None = None, **options: Any) -> Weights:
    """The student's weights at the end; nothing is published."""
    teacher, data = setting(folder.parent / f"{folder.name}-{stop}", **options)
    run, found = Recorder(stop), {}
    run.folder = folder
    monkeypatch.setattr(recipes, "publish", lambda run, learner, *_, **__: found.update(learner.model.state_dict()))
    train_student(config(work_dir=str(folder), **options), TASK, data, teacher, run, {})
    return copy.deepcopy(found)


@pytest.mark.parametrize(
    "options",
    [
        NARROW | {"method": "pkd"},
        NARROW | {"method": "tinybert"} | FEW,
        FEW | {"method": "kd"},
        FEW | {"method": "mkd", "reptile": True, "dropout": 0.0},
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    whole = distilled(tmp_path / "whole", monkeypatch, **options)
    with pytest.raises(Stopped):
        distilled(tmp_path / "parts", monkeypatch, stop=5, **options)
    parts = distilled(tmp_path / "parts", monkeypatch, **options)
    assert parts.keys() == whole.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)


def test_the_map_between_widths_learns_and_is_no_part_of_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = NARROW | {"method": "pkd"}
    student = distilled(tmp_path / "run", monkeypatch, **options)
    teacher, data = setting(tmp_path / "again", **options)
    start = start_student(config(**options), TASK, data, teacher).model
    assert student.keys() == start.state_dict().keys()
    (best,) = (tmp_path / "run" / "training").glob("best-*.safetensors")
    trained, first = load_file(best), recipes.as_wide(start, teacher.model, config(**options)).state_dict()
    assert trained["projection.weight"].shape == (16, 8)
    assert (trained["projection.weight"] - first["projection.weight"]).abs().max() > 1e-4
    same = config(method="kd", **NARROW), config(method="pkd")
    assert recipes.as_wide(start, teacher.model, same[0]) is start  # kd compares no layers
    wide = start_student(same[1], TASK, data, teacher).model
    assert recipes.as_wide(wide, teacher.model, same[1]) is wide


def test_the_rest_of_the_training_split_is_read_without_labels(tmp_path: Path) -> None:
    _, data = setting(tmp_path, **FEW)
    assert (len(data.train), data.train.labelled) == (48, 8)
    batch = data.train.training_batch([7, 8, 40, 0], seed=0, epoch=0)
    assert batch["labelled"].tolist() == [True, False, False, True]
    assert "labelled" not in data.validation.training_batch([0], seed=0, epoch=0)
    limited = open_data(data.train.corpus, TASK, setting(tmp_path / "b")[0].words, config(limit=20, **FEW)).train
    assert (len(limited), limited.labelled) == (20, 8)


def test_the_student_without_distillation_sees_the_labelled_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, data = setting(tmp_path, **FEW)
    seen: list[Data] = []
    monkeypatch.setattr(recipes, "learn", lambda model, objective, data, *_: seen.append(data))
    monkeypatch.setattr(recipes, "publish", lambda *_, **__: None)
    monkeypatch.setattr(recipes, "finish", lambda *_: None)
    monkeypatch.setattr(recipes.tracking, "run", lambda *_, **__: Silent())
    train_baseline(config(**FEW), TASK, data, teacher, dataclasses.replace(Parent(), folder=tmp_path))
    assert (len(seen[0].train), seen[0].train.labelled, len(seen[0].train.examples)) == (8, 0, 8)
    assert len(seen[0].validation) == 16


def test_a_text_alone_points_at_nothing(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    with pytest.raises(ConfigError, match="method=mkd: what refcoco points at is no part of a text alone"):
        obtain_teacher(config(task="refcoco", method="mkd"), tasks.load("refcoco"), corpus)


@dataclasses.dataclass
class Parent:
    folder: Path = Path()


class Silent:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
