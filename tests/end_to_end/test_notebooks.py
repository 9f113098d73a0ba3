"""The notebooks run from top to bottom and show what they say."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from mlflow import MlflowClient
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"corpus_size": 40, "teacher_steps": 4, "steps": 4, "warmup_steps": 1, "batch_size": 8, "train_examples": 0}
TEN_LINES = ("corpus", "task", "model", "student", "fit", "supervised", "kd", "run", "evaluate")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the kernels: this project, and a store and a working folder of the test."""
    monkeypatch.setenv("VLX_TOUR_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / name, as_version=4)


def result_of(notebook: nbformat.NotebookNode, start: str, kind: str = "text/plain") -> Any:
    """The last output of the code cell that contains a line beginning with `start`."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and f"\n{start}" in f"\n{cell.source}"]
    return cell.outputs[-1]["data"][kind]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tour_runs_from_top_to_bottom() -> None:
    notebook = read("tour.ipynb")
    options = next(cell for cell in notebook.cells if cell.source.startswith("options = {}"))
    options.source = f"options = {SMALL}"
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=300, resources=folder).execute()
    assert len(result_of(notebook, "figure = Figure", "image/png")) > 10_000
    assert "moved=True" in result_of(notebook, 'vlx.tracking.promote("vlx-nlvr2-student")')
    assert "'accuracy'" in result_of(notebook, "vlx.evaluate(champion, test)")
    table = result_of(notebook, "answers.assign")
    assert "statement" in table and ("True" in table or "False" in table)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_ten_lines_distil_a_student(tmp_path: Path) -> None:
    notebook = read("api.ipynb")
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert [name for name in TEN_LINES if f"vlx.{name}(" not in source] == []
    assert [line for line in source.splitlines() if "import" in line] == ["import vlx"]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "'accuracy': 0." in result_of(notebook, "scores")
    assert "'student': (0." in result_of(notebook, "    for name, loaded in")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.run_name, run.info.status) == ("student of a notebook", "FINISHED")
    assert run.data.metrics["val/accuracy"] > 0.5, "the student has learned little"
