"""A new architecture, task, distillation method and format: one file and one line of vlx/registry.py each."""

import difflib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROJECT = ("vlx", "entrypoints", "MLproject", "python_env.yaml", "conda.yaml", "pyproject.toml", "requirements.txt")
FILES = {  # a toy's file here -> its place in the project
    "toy_architecture.py": "vlx/models/toy.py",
    "toy_task.py": "vlx/tasks/toy.py",
    "toy_method.py": "vlx/objectives/toy.py",
    "toy_format.py": "vlx/corpora/formats/annotations/toy.py",
}
LINES = {  # table of vlx/registry.py -> the toy's line
    "ARCHITECTURES": '    "toy": Entry("vlx.models.toy:SPEC", verbs=("finetune", "distill")),\n',
    "TASKS": '    "toy": Entry("vlx.tasks.toy:TOY"),\n',
    "METHODS": '    "toy": Entry("vlx.objectives.toy:TOY", "mean squared error of logits"),\n',
    "FORMATS": '    "toy": Entry("vlx.corpora.formats.annotations.toy:TOY"),\n',
}
COLORS = ("red", "green", "blue")
QUESTIONS = {"train": 120, "val": 40, "test": 40}
OPTIONS = {"layers": 2, "student_layers": 1, "hidden_size": 32, "heads": 2, "batch_size": 16, "train_examples": 0}
SHORT = OPTIONS | {"teacher_steps": 3, "steps": 3, "warmup_steps": 1, "corpus_size": 20, "intermediate_size": 32}
LONG = OPTIONS | {"teacher_steps": 120, "steps": 120, "teacher_lr": 0.01, "lr": 0.01, "eval_every": 30}
COMBINATIONS = (  # of toys with what is built in
    {"model": "toy", "method": "kd", "task": "nlvr2"},
    {"model": "oscar", "method": "toy", "task": "vqa"},
    {"model": "lxmert", "method": "kd", "task": "toy"},
)
PARSE = "from vlx.config import DistillConfig, parse; parse(DistillConfig)"  # without the entry point's imports
DISTIL_ALL = """
import json, sys
import vlx
from vlx.config import DistillConfig
sys.path.insert(0, "entrypoints")
import distill
assert vlx.toy.__name__ == "toy", "the registry's methods are functions of the public API"
for options in json.loads(sys.argv[1]):
    distill.main(DistillConfig(**options))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the four toys."""
    folder = tmp_path_factory.mktemp("project")
    for name in PROJECT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder / name)
    for name, place in FILES.items():
        shutil.copy(HERE / name, folder / place)
    registry = folder / "vlx" / "registry.py"
    text = registry.read_text(encoding="utf-8")
    for table, line in LINES.items():
        head = f"\n{table} = {{\n"
        assert text.count(head) == 1
        text = text.replace(head, head + line)
    registry.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official files of the toy format: an image of one color, and whether it is of a named color."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "regions").mkdir()
    generator = np.random.default_rng(0)
    for split, count in QUESTIONS.items():
        lines = []
        for number in range(count):
            image, color = f"{split}{number}", int(generator.integers(len(COLORS)))
            write_regions(folder / "regions" / f"{image}.npz", color, generator)
            answer = bool(generator.integers(2))
            name = COLORS[color if answer else (color + 1) % len(COLORS)]
            question = {"id": image, "image": image, "question": f"is it {name} ?", "answer": "yes" if answer else "no"}
            lines.append(json.dumps(question))
        (folder / f"toy_{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def write_regions(path: Path, color: int, generator: np.random.Generator) -> None:
    """Two regions of a color, features [2,8]."""
    features = generator.random((2, 8), dtype=np.float32) / 10
    features[:, color] += 1
    np.savez(path, features=features, boxes=np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5]], np.float32))


def run(command: list[str], project: Path, folder: Path) -> str:
    """Run a command in the project's copy, with the environment of the tests and a store in `folder`; its output."""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(project),
        "COLUMNS": "200",
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def files_of(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def metrics_of(store: Path, role: str, *, task: str) -> Mapping[str, float]:
    """The metrics of the only run of a role and a task, which is finished."""
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (tracked,) = client.search_runs(experiments, f"tags.`vlx.role` = '{role}' and tags.`vlx.task` = '{task}'")
    assert tracked.info.status == "FINISHED"
    return tracked.data.metrics


def test_a_toy_is_one_file_and_one_line(project: Path) -> None:
    toys, originals = files_of(project / "vlx"), files_of(ROOT / "vlx")
    added = {f"vlx/{name}" for name in toys.keys() - originals.keys()}
    assert added == set(FILES.values())
    assert originals.keys() <= toys.keys()
    changed = [name for name in originals if originals[name] != toys[name]]
    assert changed == ["registry.py"]
    before, after = (text.splitlines(keepends=True) for text in (originals["registry.py"], toys["registry.py"]))
    edits = [line for line in difflib.ndiff(before, after) if line[0] in "+-?"]
    assert sorted(edits) == sorted(f"+ {line}" for line in LINES.values())
    assert {path.name for path in HERE.glob("toy_*.py")} == set(FILES)


def test_help_offers_the_toys(project: Path, tmp_path: Path) -> None:
    text = " ".join(run([sys.executable, "-c", PARSE, "--help"], project, tmp_path).split())
    assert "architecture (toy | oscar" in text
    assert "task (toy | nlvr2" in text
    assert "toy: mean squared error of logits;" in text


@pytest.mark.slow
def test_all_toys_train_and_distil_through_mlflow_run(project: Path, source: Path, tmp_path: Path) -> None:
    options = {"task": "toy", "model": "toy", "method": "toy", "format": "toy", "source": source} | LONG
    options |= {"work_dir": tmp_path / "outputs"}
    words = [part for name, value in options.items() for part in ("-P", f"{name}={value}")]
    mlflow_run = [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local", "-e", "distill", *words]
    output = run(mlflow_run, project, tmp_path)
    assert "registered as vlx-toy-student, version 1" in output
    metrics = {role: metrics_of(tmp_path, role, task="toy") for role in ("teacher", "baseline", "student")}
    for role, values in metrics.items():
        assert values["test/accuracy"] > values["test/majority_baseline"] + 0.2, role
        assert 0 < values["test/recall_of_yes"] <= 1
    assert metrics["student"]["train/mse"] >= 0
    assert metrics["student"]["model/parameters"] < metrics["teacher"]["model/parameters"]


@pytest.mark.slow
def test_each_toy_works_with_what_is_built_in(project: Path, source: Path, tmp_path: Path) -> None:
    configs = []
    for options in COMBINATIONS:
        config = SHORT | options | {"work_dir": str(tmp_path / "outputs")}
        configs.append(config | {"source": str(source)} if options["task"] == "toy" else config)
    run([sys.executable, "-c", DISTIL_ALL, json.dumps(configs)], project, tmp_path)
    for options in COMBINATIONS:
        assert 0 <= metrics_of(tmp_path, "student", task=options["task"])["test/accuracy"] <= 1
