"""`mlflow run . -e distill`, as a user types it: what must then be in MLflow, seen through its client."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"corpus_size": 80, "teacher_steps": 6, "steps": 6, "warmup_steps": 2, "batch_size": 16, "eval_every": 3}
FIGURES = {"figures/comparison.png", "figures/confusion.png", "figures/scores.png", "figures/categories.png"}


def mlflow_run(folder: Path, verb: str, **options: object) -> str:
    """Run an entry point of the project in the environment of this test; its output."""
    parameters = [part for name, value in options.items() for part in ("-P", f"{name}={value}")]
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", "-e", verb, *parameters]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "200",
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout + result.stderr


def artifacts(client: MlflowClient, run: Run, folder: str = "") -> set[str]:
    items = client.list_artifacts(run.info.run_id, folder or None)
    return set().union(*(artifacts(client, run, item.path) if item.is_dir else {item.path} for item in items))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The main job; MKD with Reptile from the same teacher; then a promotion."""
    folder = tmp_path_factory.mktemp("story")
    work = {"work_dir": folder / "outputs"}
    first = mlflow_run(folder, "distill", task="nlvr2", **SMALL, **work)
    second = mlflow_run(folder, "distill", task="nlvr2", method="mkd", reptile="true", **SMALL, **work)
    mlflow_run(folder, "promote", name="vlx-nlvr2-student", version="1")
    return folder, first, second


@pytest.fixture
def client(story: tuple[Path, str, str]) -> MlflowClient:
    return MlflowClient(f"sqlite:///{story[0] / 'mlflow.db'}")


def runs(client: MlflowClient, role: str) -> list[Run]:
    """Runs of that role, oldest first."""
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(everywhere, f"tags.`vlx.role` = '{role}'", order_by=["start_time ASC"])


def test_the_output_ends_with_table_version_and_links(story: tuple[Path, str, str]) -> None:
    _, first, second = story
    for row in ("teacher", "student without distillation", "distilled student", "consistency", "parameters", "latency"):
        assert row in first
    assert "registered as vlx-nlvr2-student, version 1" in first
    assert "?workflowType=machine_learning" in first
    assert "registered as vlx-nlvr2-student, version 2" in second
    assert "teacher: trained by an earlier run" in second


def test_students_and_their_one_teacher_are_finished_runs_with_descriptions(client: MlflowClient) -> None:
    students, teachers, baselines = (runs(client, role) for role in ("student", "teacher", "baseline"))
    assert (len(students), len(teachers), len(baselines)) == (2, 1, 2)
    for run in [*students, *teachers, *baselines]:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.note.content"]
        assert 0 <= run.data.metrics["test/accuracy"] <= 1
    assert students[0].info.run_name == "kd on nlvr2, 2-layer student"
    assert baselines[0].data.tags["mlflow.parentRunId"] == students[0].info.run_id


def test_a_run_holds_options_curves_figures_predictions_and_data(client: MlflowClient) -> None:
    run = runs(client, "student")[0]
    assert run.data.params["config/alpha"] == "0.9" and run.data.params["task"] == "nlvr2"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/accuracy")]
    assert steps == [3, 6]
    paths = artifacts(client, run)
    assert paths >= FIGURES | {"config.json", "model_card.md", "predictions/nlvr2_test1.csv"}
    assert any(path.endswith(".html") for path in paths)
    contexts = {tag.value for entry in run.inputs.dataset_inputs for tag in entry.tags if "context" in tag.key}
    assert contexts == {"train", "validation", "test"}


def test_versions_carry_their_lineage_and_the_champion_answers(
    client: MlflowClient, story: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = client.get_model_version_by_alias("vlx-nlvr2-student", "champion")
    assert version.tags["teacher"] == "models:/vlx-nlvr2-teacher/1"
    assert version.tags["teacher_run"] == runs(client, "teacher")[0].info.run_id
    assert {"data_fingerprint", "val/accuracy", "test/consistency", "architecture", "split"} <= set(version.tags)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{story[0] / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/vlx-nlvr2-student@champion")
    path = str(story[0] / "image.png")
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((10, 10, 40, 40), fill=(214, 40, 40))
    image.save(path)
    question = {"text": "There is a red circle in the left image.", "image_0": path, "image_1": path}
    answer = model.predict(pd.DataFrame([question]))
    assert answer["answer"][0] in ("True", "False") and 0 <= answer["score"][0] <= 1
