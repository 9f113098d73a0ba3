"""A distillation that is killed at any moment and restarted ends in the same bits as an uninterrupted one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
KILLS = 10
OPTIONS = {
    "corpus_size": 80,
    "teacher_steps": 24,
    "steps": 24,
    "warmup_steps": 4,
    "train_examples": 0,
    "batch_size": 8,
    "hidden_size": 16,
    "heads": 2,
    "intermediate_size": 16,
    "layers": 2,
    "student_layers": 1,
    "dropout": 0.1,
    "method": "mkd",
    "reptile": "true",
    "meta_lr": 1e-3,
    "eval_every": 6,
    "checkpoint_every": 3,
    "log_every": 2,
    "precision": "fp32",
}


def start(folder: Path, store: str) -> subprocess.Popen[bytes]:
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    command = [sys.executable, str(ROOT / "entrypoints" / "distill.py"), f"--work_dir={folder / 'outputs'}", *options]
    environment = os.environ | {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def finish(folder: Path, store: str) -> None:
    process = start(folder, store)
    assert process.wait(timeout=300) == 0, (folder / "log.txt").read_text()[-3000:]


def journal_bytes(folder: Path) -> int:
    """Return the size of all journals, which grows over restarts as the run advances."""
    return sum(path.stat().st_size for path in folder.rglob("journal.jsonl"))


def kill_after(process: subprocess.Popen[bytes], folder: Path, *, target: float, pause: float) -> None:
    """Send SIGKILL `pause` seconds after the journals have grown to `target` bytes."""
    while journal_bytes(folder) < target:
        assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
        time.sleep(0.01)
    time.sleep(pause)
    assert process.poll() is None, "the run ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of the student, the baseline, and the teacher before and after Reptile moved it."""
    (run,) = (folder / "outputs" / "runs").iterdir()
    (teacher,) = (folder / "outputs" / "teachers").iterdir()
    models = {
        "student": run / "model",
        "baseline": run / "baseline" / "model",
        "teacher": teacher / "model",
        "moved teacher": run / "teacher",
    }
    return {name: load_file(model / "model.safetensors") for name, model in models.items()}


def histories(store: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the points (step, value) by role and metric, without metrics of time."""
    client = MlflowClient(store)
    (experiment,) = (each for each in client.search_experiments() if each.name != "Default")
    roles = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.status == "FINISHED"
        keys = [key for key in run.data.metrics if "per_second" not in key and "latency" not in key]
        points = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
        role = run.data.tags["vlx.role"]
        roles[role] = {key: [(point.step, point.value) for point in values] for key, values in points.items()}
    return roles


def test_ten_kills_change_no_bit_and_neither_lose_nor_double_a_metric(tmp_path: Path) -> None:
    uninterrupted = tmp_path / "uninterrupted"
    killed = tmp_path / "killed"
    stores = {folder: f"sqlite:///{folder / 'mlflow.db'}" for folder in (uninterrupted, killed)}
    uninterrupted.mkdir()
    killed.mkdir()
    finish(uninterrupted, stores[uninterrupted])
    share = journal_bytes(uninterrupted) / (KILLS + 1)

    chance = random.Random(int(os.environ.get("VLX_KILL_SEED", "0")))
    for _ in range(KILLS):
        process = start(killed, stores[killed])
        target = journal_bytes(killed) + share * chance.uniform(0.3, 1.0)
        kill_after(process, killed, target=target, pause=chance.uniform(0.0, 0.2))
    finish(killed, stores[killed])

    expected = weights(uninterrupted)
    actual = weights(killed)
    for name, tensors in expected.items():
        assert all(torch.equal(actual[name][key], value) for key, value in tensors.items()), name
    assert not all(torch.equal(expected["moved teacher"][key], value) for key, value in expected["teacher"].items())
    assert histories(stores[killed]) == histories(stores[uninterrupted])
    (run,) = (killed / "outputs" / "runs").iterdir()
    assert json.loads((run / "result.json").read_text())["version"] == "1"


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_a_checkpoint_and_ends_the_runs_as_killed(
    tmp_path: Path, kind: signal.Signals, code: int
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    process = start(tmp_path, store)
    checkpoints = tmp_path / "outputs" / "teachers"
    while not list(checkpoints.glob("*/training/step-*")):
        assert process.poll() is None, (tmp_path / "log.txt").read_text()[-3000:]
        time.sleep(0.01)
    process.send_signal(kind)
    assert process.wait(timeout=120) == code
    runs = MlflowClient(store).search_runs(["1"])
    assert {run.info.status for run in runs} == {"KILLED"}
    (newest,) = [sorted(folder.glob("step-*"))[-1] for folder in checkpoints.glob("*/training")]
    steps = [json.loads(line)["step"] for line in journal(newest).splitlines() if '"op": "metrics"' in line]
    assert int(newest.name.removeprefix("step-")) >= max(steps)


def journal(checkpoint: Path) -> str:
    return (checkpoint.parents[1] / "journal.jsonl").read_text()
