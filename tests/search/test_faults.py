"""What becomes of a study when a trial, a process or the storage fails."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tests.search.helpers import runs, table
from tests.search.toy import QUICK, find
from vlx.errors import ConfigError, TrainingError
from vlx.search.results import trial_rows
from vlx.search.study import MAX_ATTEMPTS, open_storage, quiet, requeue_dead
from vlx.tracking import store

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "search" / "toy.py"


def start(folder: Path, fault: str = "", **options: object) -> subprocess.Popen[bytes]:
    """Start a search in a process of its own."""
    words = [f"--{key}={value}" for key, value in ({"work_dir": folder / "outputs"} | options).items()]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "VLX_TOY": fault}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, SCRIPT, *words], cwd=folder, env=variables, stdout=log, stderr=log)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, (path.parents[1] / "log.txt").read_text()[-2000:]
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


@pytest.mark.slow
def test_a_trial_that_raises_and_one_that_gives_nan_fail_alone(
    server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {"raise 2": "ValueError: a bug in the verb", "nan 2": "TrainingError: the score is nan."}
    for fault, note in notes.items():
        monkeypatch.setenv("VLX_TOY", fault)
        find(trials=5, work_dir=fault, pruner="none")
        states = [(row["state"], row["note"]) for row in table(Path(fault))]
        assert states == [("complete", "")] * 2 + [("failed", note)] + [("complete", "")] * 2
    children = server.search_runs([store.experiment_id(server)], "tags.`vlx.trial_state` = 'failed'")
    (failed,) = children  # the run whose score is nan has finished
    assert failed.info.status == "FAILED" and failed.data.tags["vlx.error"] == "ValueError: a bug in the verb"


@pytest.mark.slow
def test_a_search_of_failures_alone_stops(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLX_TOY", "raise")
    with pytest.raises(TrainingError, match="the first 3 trials failed, the last with ValueError: a bug"):
        find(trials=20, pruner="none")
    assert runs(server)[0].info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["", "journal"])
def test_a_killed_study_is_resumed_and_its_trial_too(storage: str, server: MlflowClient, tmp_path: Path) -> None:
    options = {"trials": 4, "pruner": "none", "study": "mine", "storage": storage}
    process = start(tmp_path, "stop 2", **options)
    wait_for(tmp_path / "outputs" / "stopped", process)
    process.kill()
    process.wait()
    find(work_dir=str(tmp_path / "outputs"), **options)
    rows = table(tmp_path / "outputs")
    parent, children = runs(server)
    assert [row["number"] for row in rows] == list(range(5)) and len(children) == 4
    assert Counter(row["state"] for row in rows) == {"complete": 4, "killed": 1} and rows[2]["state"] == "killed"
    (retry,) = [row for row in rows[3:] if row["alpha"] == rows[2]["alpha"]]
    (child,) = [run for run in children if run.data.tags["vlx.trial"] == str(retry["number"])]
    steps = [point.step for point in server.get_metric_history(child.info.run_id, "toy/step")]
    assert steps == list(range(50, 501, 50))
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    find(work_dir=str(tmp_path / "uninterrupted"), **options)
    settings = [row["alpha"] for row in rows if row["state"] == "complete"]
    assert sorted(settings) == sorted(row["alpha"] for row in table(tmp_path / "uninterrupted"))


@pytest.mark.slow
def test_an_interrupted_study_ends_as_killed_and_repeats_its_trial(server: MlflowClient, tmp_path: Path) -> None:
    process = start(tmp_path, "stop 1", trials=3, study="mine", pruner="none")
    wait_for(tmp_path / "outputs" / "stopped", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    parent, children = runs(server)
    assert [run.info.status for run in (parent, *children)] == ["KILLED", "FINISHED", "KILLED"]
    find(work_dir=str(tmp_path / "outputs"), trials=3, study="mine", pruner="none")
    assert [row["state"] for row in table(tmp_path / "outputs")] == ["complete", "killed", "complete", "complete"]
    parent, children = runs(server)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"} and len(children) == 3


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(server: MlflowClient, tmp_path: Path) -> None:
    options = {"trials": 4, "study": "mine", "pruner": "none"}
    leader = start(tmp_path, "meet", **options)
    wait_for(tmp_path / "outputs" / "studies" / "mine" / "journal.jsonl", leader)
    worker = start(tmp_path, "stop", **options)
    wait_for(tmp_path / "outputs" / "stopped", worker)
    worker.kill()
    worker.wait()
    assert leader.wait(120) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    rows = table(tmp_path / "outputs")
    parent, children = runs(server)
    assert Counter(row["state"] for row in rows) == {"complete": 4, "killed": 1}
    assert [row["number"] for row in rows] == list(range(5)) and len(children) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}


@pytest.mark.slow
def test_two_workers_share_a_study(server: MlflowClient, tmp_path: Path) -> None:
    process = start(tmp_path, "meet", trials=4, workers=2, study="mine")
    assert process.wait(120) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    rows = table(tmp_path / "outputs")
    parent, children = runs(server)
    assert [row["number"] for row in rows] == list(range(4)) and len(children) == 4
    assert len({(row["alpha"], row["lr"]) for row in rows}) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len({run.data.tags["vlx.process"] for run in children}) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_silent_trial_of_another_machine_is_queued_again(server: MlflowClient) -> None:
    timing = replace(QUICK, heartbeat=1, grace=2)
    find(timing, trials=2, study="mine", pruner="none")
    with quiet():
        storage = open_storage("", Path("outputs/studies/mine"), timing=timing)
        study = optuna.load_study(study_name="mine", storage=storage)
        trial = study.ask()
    trial.set_user_attr("process", {"vlx.host": "elsewhere", "vlx.process": "1 0"})
    assert trial.suggest_float("alpha", 0.0, 1.0) >= 0
    storage.record_heartbeat(trial._trial_id)
    find(timing, trials=4, study="mine", pruner="none")
    rows = table()
    assert [row["state"] for row in rows] == ["complete", "complete", "killed", "complete", "complete"]
    assert rows[2]["alpha"] in [row["alpha"] for row in rows[3:]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_settings_that_kill_every_process_fail(server: MlflowClient) -> None:
    find(trials=2, study="mine", pruner="none")
    with quiet():
        study = optuna.load_study(study_name="mine", storage=open_storage("", Path("outputs/studies/mine")))
        for _ in range(MAX_ATTEMPTS):
            trial = study.ask()
            trial.set_user_attr("process", store.process_tags() | {"vlx.process": "999999 0"})
            requeue_dead(study)
    states = [row["state"] for row in trial_rows(study)]
    assert states == ["complete"] * 2 + ["killed"] * (MAX_ATTEMPTS - 1) + ["failed"]


@pytest.mark.slow
def test_a_search_waits_for_a_storage_that_is_locked_for_a_while(server: MlflowClient) -> None:
    find(trials=2, study="mine", pruner="none")
    locked = threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect("outputs/studies/mine/study.db", timeout=30)) as writer:
            for _ in range(3):
                writer.execute("begin exclusive")
                locked.set()
                time.sleep(1)
                writer.rollback()
                time.sleep(0.2)

    thread = threading.Thread(target=lock)
    thread.start()
    locked.wait()
    find(trials=4, study="mine", pruner="none")
    thread.join()
    assert [row["state"] for row in table()] == ["complete"] * 4


@pytest.mark.slow
def test_a_storage_that_stays_locked_or_is_not_there_is_one_line(server: MlflowClient) -> None:
    timing = replace(QUICK, sqlite_lock=0.1)
    find(timing, trials=1, study="mine")
    with closing(sqlite3.connect("outputs/studies/mine/study.db")) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(ConfigError, match="storage=outputs/studies/mine: cannot be used .*locked"):
            find(timing, trials=2, study="mine")
    for storage in ("sqlite:////nowhere/at/all.db", "nonsense"):
        with pytest.raises(ConfigError, match=f"storage={storage}: cannot be used"):
            find(trials=1, storage=storage)
    with pytest.raises(ConfigError, match="storage=127.0.0.1:1/x: cannot be used") as error:
        find(trials=1, storage="postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(error.value)
    with pytest.raises(ConfigError, match="study=a/b: expected letters"):
        find(trials=1, study="a/b")
