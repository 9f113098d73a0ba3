"""The notebook tells the same story as the README, and runs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).resolve().parents[2] / "notebooks" / "tour.ipynb"
SMALL = {"corpus_size": 40, "teacher_steps": 4, "steps": 4, "warmup_steps": 1, "batch_size": 8, "train_examples": 0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tour_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    options = next(cell for cell in notebook.cells if cell.source.startswith("options = {}"))
    options.source = f"options = {SMALL}"
    monkeypatch.setenv("VLX_TOUR_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOUR.parents[1]), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    table = notebook.cells[-2].outputs[-1]["data"]["text/plain"]
    assert "statement" in table and ("True" in table or "False" in table)
    promotion = notebook.cells[-4].outputs[-1]["data"]["text/plain"]
    assert "moved=True" in promotion
