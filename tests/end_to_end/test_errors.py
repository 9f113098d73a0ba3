"""Every mistake a user can make: one line on stderr, exit code 2, nothing half-written."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.toy import write_corpus
from vlx import checkpoints, corpora, tasks
from vlx.config import VERBS, DistillConfig, launch
from vlx.recipes.build import new_task_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run an entry point that must fail; its error line."""

    def run(verb: str, *arguments: str) -> str:
        spec = importlib.util.spec_from_file_location(verb, ROOT / "entrypoints" / f"{verb}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr("sys.argv", [f"{verb}.py", *arguments])
        with pytest.raises(SystemExit) as leaving:
            launch(module.main, VERBS[verb])
        assert leaving.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        assert not any("Traceback" in line for line in lines)
        return lines[-1]

    return run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "toy").path


@pytest.mark.parametrize("verb", ["prepare", "finetune", "distill", "evaluate"])
def test_a_missing_data_folder(fails: Callable[..., str], verb: str) -> None:
    line = fails(verb, "--task=nlvr", "--source=nowhere")
    assert line.startswith("vlx: ") and "nowhere" in line
    assert not list(Path("outputs").rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--task=nlvr3", "task=nlvr3: expected one of nlvr2, nlvr, vqa,"),
        ("--alpha=1.5", "alpha=1.5: expected a value from 0 to 1."),
        ("--student_layers=7", "student_layers=7: expected at most the teacher's layers=4."),
        ("--preset=oscar-vqa", "preset=oscar-vqa: no such preset"),
        ("--model=vilbert --method=pkd", "method=pkd: needs an architecture that returns the hidden states"),
        ("--task=retrieval --unlabeled=true", "unlabeled=true: task=retrieval"),
        ("--temprature=2", "unknown option: temprature. Did you mean temperature?"),
    ],
)
def test_an_impossible_option_is_refused_before_anything_is_read(
    fails: Callable[..., str], option: str, message: str
) -> None:
    assert message in fails("distill", *option.split())
    assert not Path("outputs").exists()


def test_a_corrupt_feature_file(fails: Callable[..., str], tmp_path: Path) -> None:
    source = tmp_path / "nlvr2"
    source.mkdir()
    example = '{"identifier": "train-1-0-0", "sentence": "a", "label": "True"}\n'
    for split in ("train", "dev", "test1"):
        (source / f"{split}.json").write_text(example.replace("train", split))
    torch.save({"train-1-0-img0": torch.zeros(1, 10)}, source / "nlvr2_img_frcnn_feats.pt")
    content = (source / "nlvr2_img_frcnn_feats.pt").read_bytes()
    (source / "nlvr2_img_frcnn_feats.pt").write_bytes(content[: len(content) // 2])
    assert "nlvr2_img_frcnn_feats.pt" in fails("distill", f"--source={source}")
    assert not list(Path("outputs/corpora").glob("*/manifest.json"))


def test_a_teacher_that_is_no_model(fails: Callable[..., str], corpus: Path, tmp_path: Path) -> None:
    line = fails("distill", f"--corpus={corpus}", f"--teacher={tmp_path}")
    assert "no vlx.json and no pytorch_model.bin there" in line


def test_a_teacher_of_another_task_and_one_with_too_few_layers(
    fails: Callable[..., str], corpus: Path, tmp_path: Path
) -> None:
    cfg = DistillConfig(hidden_size=8, heads=1, layers=1, student_layers=1)
    loaded = new_task_model(cfg, tasks.load("nlvr2"), corpora.open(corpus))
    checkpoints.save(tmp_path / "same", loaded)
    other = dataclasses.replace(loaded, preprocessing=dataclasses.replace(loaded.preprocessing, task="vqa"))
    checkpoints.save(tmp_path / "other", other)
    line = fails("distill", f"--corpus={corpus}", f"--teacher={tmp_path / 'other'}")
    assert "a model of another task (vqa); expected one of task=nlvr2" in line
    line = fails("distill", f"--corpus={corpus}", f"--teacher={tmp_path / 'same'}", "--student_layers=2")
    assert "student_layers=2: expected at most the teacher's layers, 1" in line


def test_a_version_that_is_not_there(fails: Callable[..., str], corpus: Path) -> None:
    assert "vlx-nlvr2-student" in fails("evaluate", f"--corpus={corpus}")
    assert "nobody" in fails("promote", "--name=nobody")


def test_nothing_to_sync(fails: Callable[..., str]) -> None:
    Path("empty").mkdir()
    assert "empty" in fails("sync", "--folder=empty")
