"""A study, and what becomes of it when something breaks."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from tests.search_toy import find, quality
from vlx import tracking
from vlx.config import DistillConfig, parse
from vlx.errors import ConfigError, TrainingError
from vlx.search import study as studies
from vlx.tracking import store

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "search_toy.py"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def server(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("vlx.search.LOOK", 0.1)
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def runs(client: MlflowClient) -> tuple[MlflowRun, list[MlflowRun]]:
    """The run of the search, and all others by when they began."""
    found = client.search_runs([store.experiment_id(client)], order_by=["attributes.start_time"])
    (parent,) = [run for run in found if run.info.run_name == "search of distill"]
    return parent, [run for run in found if run is not parent]


def table(folder: Path = Path("outputs")) -> list[dict[str, object]]:
    """The trials of the only study there."""
    (path,) = folder.glob("studies/*/artifacts/trials.table.json")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def start(folder: Path, fault: str = "", **options: object) -> subprocess.Popen[bytes]:
    """A search in a process of its own."""
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
def test_a_study_is_a_run_with_a_child_for_each_trial(server: MlflowClient) -> None:
    best = find(trials=10)
    parent, children = runs(server)
    rows = table()
    assert [row["number"] for row in rows] == list(range(10))
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert [run.data.tags["vlx.trial"] for run in children] == [str(number) for number in range(10)]
    default = DistillConfig()
    assert (rows[0]["alpha"], rows[0]["temperature"], rows[0]["lr"]) == (default.alpha, default.temperature, default.lr)
    shown = {"complete": ("FINISHED", "complete"), "pruned": ("KILLED", "pruned")}
    for row, child in zip(rows, children, strict=True):
        assert (child.info.status, child.data.tags["vlx.trial_state"]) == shown[row["state"]]
        assert row["run"] == child.info.run_id and "vlx.error" not in child.data.tags
    states = Counter(row["state"] for row in rows)
    assert states["pruned"] >= 3 and states["complete"] >= 1
    assert best == max(row["score"] for row in rows if row["state"] == "complete")
    assert parent.info.status == "FINISHED" and parent.data.metrics["search/best"] == best
    history = [point.value for point in server.get_metric_history(parent.info.run_id, "search/best")]
    assert history == sorted(history) and len(history) == 10
    pages = {file.path for file in server.list_artifacts(parent.info.run_id, "figures")}
    assert {f"figures/{name}.png" for name in ("slice", "parallel", "importances")} <= pages
    assert any(page.startswith("figures/contour-") for page in pages)
    files = {file.path for file in server.list_artifacts(parent.info.run_id)}
    assert {"trials.table.json", "best.yaml", "space.yaml", "config.json"} <= files


@pytest.mark.slow
def test_the_best_settings_are_a_preset_of_the_verb(server: MlflowClient) -> None:
    find(trials=6, options="--batch_size=32", seed=3)
    (preset,) = Path("outputs/studies").glob("*/best.yaml")
    best = max((row for row in table() if row["state"] == "complete"), key=lambda row: row["score"])
    cfg = parse(DistillConfig, [f"--preset={preset}"])
    assert (cfg.alpha, cfg.lr, cfg.batch_size) == (best["alpha"], best["lr"], 32)
    assert not {"seed", "work_dir", "baseline", "eval_every"} & set(yaml.safe_load(preset.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "cmaes"])
def test_a_sampler_by_name(sampler: str, server: MlflowClient) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="sampler=cmaes needs the package cmaes")
    find(trials=10, sampler=sampler, pruner="none")
    assert Counter(row["state"] for row in table()) == {"complete": 10}
    assert len({row["alpha"] for row in table()}) == 10


@pytest.mark.slow
def test_a_sampler_whose_package_is_missing_is_one_line(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="sampler=cmaes: needs the package cmaes; pip install"):
        find(trials=4, sampler="cmaes")


@pytest.mark.slow
def test_a_grid_is_tried_once_and_then_the_study_ends(server: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "method: {choices: [kd, mkd]}\nstudent_layers: {low: 1, high: 3}\neval_every: 50"
    )
    find(trials=50, sampler="grid", space=str(tmp_path / "grid.yaml"), pruner="none")
    cells = [(row["method"], row["student_layers"]) for row in table()]
    assert cells[0] == ("kd", 2) and sorted(cells) == [(m, n) for m in ("kd", "mkd") for n in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("pruner", "prunes"), [("asha", True), ("hyperband", True), ("median", True), ("none", False)])
def test_a_pruner_by_name(pruner: str, prunes: bool, server: MlflowClient) -> None:
    find(trials=10, sampler="random", pruner=pruner, seed=1)
    states = Counter(row["state"] for row in table())
    assert (states["pruned"] > 0) == prunes and states["complete"] > 0 and sum(states.values()) == 10
    assert all(row["looks"] < 10 for row in table() if row["state"] == "pruned")


@pytest.mark.slow
def test_several_seeds_are_averaged_and_the_hopeless_end_early(server: MlflowClient) -> None:
    best = find(trials=6, sampler="random", seeds=3)
    rows, (parent, children) = table(), runs(server)
    trials = {
        run.data.tags["vlx.trial"]: run for run in children if run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    }
    assert len(trials) == 6
    below = Counter(run.data.tags["mlflow.parentRunId"] for run in children if run.info.run_id not in
                    {each.info.run_id for each in trials.values()})  # fmt: skip
    for row in rows:
        child = trials[str(row["number"])]
        assert below[child.info.run_id] == (3 if row["state"] == "complete" else 2)
        assert child.info.status == ("FINISHED" if row["state"] == "complete" else "KILLED")
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    first = DistillConfig()
    seeds = [quality(DistillConfig(seed=seed)) for seed in (0, 1, 2)]
    assert rows[0]["score"] == pytest.approx(sum(seeds) / 3 * (1 - 2.718281828**-5)) and first.seed == 0
    assert best >= rows[0]["score"]


@pytest.mark.slow
def test_two_aims_give_a_front(server: MlflowClient) -> None:
    best = find(trials=8, against="latency", sampler="random")
    rows, (parent, _) = table(), runs(server)
    assert all(row["state"] == "complete" and row["cost"] == pytest.approx(1 + row["temperature"]) for row in rows)
    assert best == max(row["score"] for row in rows)
    front = tracking.front(rows)
    assert front == [
        row
        for row in sorted(rows, key=lambda row: row["cost"])
        if all(other["score"] < row["score"] for other in rows if other["cost"] < row["cost"])
    ]
    assert "figures/pareto.png" in {file.path for file in server.list_artifacts(parent.info.run_id, "figures")}


@pytest.mark.slow
def test_the_same_command_goes_on_where_the_study_is(server: MlflowClient, tmp_path: Path) -> None:
    options = {"study": "mine", "pruner": "none"}
    find(trials=5, **options)
    before = table()
    assert find(trials=5, **options) == max(row["score"] for row in before)
    assert table() == before
    find(trials=9, **options)
    parent, children = runs(server)
    assert parent.info.status == "FINISHED" and len(children) == 9
    assert table()[:5] == before and [row["number"] for row in table()] == list(range(9))
    find(trials=9, work_dir=str(tmp_path / "whole"), **options)
    assert [row["alpha"] for row in table(tmp_path / "whole")] == [row["alpha"] for row in table()]  # as if never ended
    with pytest.raises(ConfigError, match="study=mine: was made with other options"):
        find(trials=5, options="--batch_size=32", **options)


@pytest.mark.slow
def test_a_trial_that_raises_and_one_that_gives_nan_fail_alone(
    server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fault, note in {
        "raise 2": "ValueError: a bug in the verb",
        "nan 2": "TrainingError: the score is nan.",
    }.items():
        monkeypatch.setenv("VLX_TOY", fault)
        find(trials=5, work_dir=fault, pruner="none")
        states = [(row["state"], row["note"]) for row in table(Path(fault))]
        assert states == [("complete", "")] * 2 + [("failed", note)] + [("complete", "")] * 2
    children = server.search_runs([store.experiment_id(server)], "tags.`vlx.trial_state` = 'failed'")
    (failed,) = children  # the verb of the other returned nan, and was content
    assert failed.info.status == "FAILED" and failed.data.tags["vlx.error"] == "ValueError: a bug in the verb"


@pytest.mark.slow
def test_a_search_of_failures_alone_stops(server: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLX_TOY", "raise")
    with pytest.raises(TrainingError, match="the first 3 trials failed, the last with ValueError: a bug"):
        find(trials=20, pruner="none")
    assert runs(server)[0].info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["", "journal"])
def test_a_killed_study_goes_on_and_its_trial_too(storage: str, server: MlflowClient, tmp_path: Path) -> None:
    options = {"trials": 5, "pruner": "none", "study": "mine", "storage": storage}
    process = start(tmp_path, "stop 2", **options)
    wait_for(tmp_path / "outputs" / "stopped", process)
    process.kill()
    process.wait()
    find(work_dir=str(tmp_path / "outputs"), **options)
    rows, (parent, children) = table(tmp_path / "outputs"), runs(server)
    assert [row["number"] for row in rows] == list(range(6)) and len(children) == 5
    assert Counter(row["state"] for row in rows) == {"complete": 5, "killed": 1} and rows[2]["state"] == "killed"
    (again,) = [row for row in rows[3:] if row["alpha"] == rows[2]["alpha"]]
    (child,) = [run for run in children if run.data.tags["vlx.trial"] == str(again["number"])]
    assert [point.step for point in server.get_metric_history(child.info.run_id, "toy/step")] == list(
        range(50, 501, 50)
    )
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    find(work_dir=str(tmp_path / "whole"), **options)
    settings = [row["alpha"] for row in rows if row["state"] == "complete"]
    assert sorted(settings) == sorted(row["alpha"] for row in table(tmp_path / "whole"))  # as if never killed


@pytest.mark.slow
def test_an_interrupted_study_says_so_and_begins_its_trial_again(server: MlflowClient, tmp_path: Path) -> None:
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
    options = {"trials": 16, "study": "mine", "pruner": "none"}
    leader = start(tmp_path, "slow", **options)
    wait_for(tmp_path / "outputs" / "studies" / "mine" / "journal.jsonl", leader)
    worker = start(tmp_path, "stop", **options)
    wait_for(tmp_path / "outputs" / "stopped", worker)
    worker.kill()
    worker.wait()
    assert leader.wait(120) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    rows, (parent, children) = table(tmp_path / "outputs"), runs(server)
    assert Counter(row["state"] for row in rows) == {"complete": 16, "killed": 1}
    assert [row["number"] for row in rows] == list(range(17)) and len(children) == 16
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}


@pytest.mark.slow
def test_two_workers_share_a_study(server: MlflowClient, tmp_path: Path) -> None:
    process = start(tmp_path, "slow", trials=12, workers=2, study="mine")
    assert process.wait(120) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    rows, (parent, children) = table(tmp_path / "outputs"), runs(server)
    assert [row["number"] for row in rows] == list(range(12)) and len(children) == 12
    assert len({(row["alpha"], row["lr"]) for row in rows}) == 12
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len({run.data.tags["vlx.process"] for run in children}) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_silent_trial_of_another_machine_is_begun_again(
    server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "BEAT", 1)
    monkeypatch.setattr(studies, "GRACE", 2)
    find(trials=2, study="mine", pruner="none")
    with studies.quiet():
        storage = studies.open_storage("", Path("outputs/studies/mine"))
        study = optuna.load_study(study_name="mine", storage=storage)
        trial = study.ask()
    trial.set_user_attr("process", {"vlx.host": "elsewhere", "vlx.process": "1 0"})
    assert trial.suggest_float("alpha", 0.0, 1.0) >= 0
    storage.record_heartbeat(trial._trial_id)
    find(trials=4, study="mine", pruner="none")
    rows = table()
    assert [row["state"] for row in rows] == ["complete", "complete", "killed", "complete", "complete"]
    assert rows[2]["alpha"] in [row["alpha"] for row in rows[3:]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_settings_that_kill_every_process_are_given_up(server: MlflowClient) -> None:
    find(trials=2, study="mine", pruner="none")
    with studies.quiet():
        study = optuna.load_study(study_name="mine", storage=studies.open_storage("", Path("outputs/studies/mine")))
        for _ in range(studies.ATTEMPTS):
            trial = study.ask()
            trial.set_user_attr("process", store.process_tags() | {"vlx.process": "999999 0"})
            studies.reclaim(study)
    states = [row["state"] for row in studies.rows(study)]
    assert states == ["complete"] * 2 + ["killed"] * (studies.ATTEMPTS - 1) + ["failed"]


@pytest.mark.slow
def test_a_storage_that_is_locked_for_a_while_is_waited_for(server: MlflowClient, tmp_path: Path) -> None:
    find(trials=2, study="mine", pruner="none")
    locked = threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect("outputs/studies/mine/study.db", timeout=30)) as other:
            for _ in range(3):
                other.execute("begin exclusive")
                locked.set()
                time.sleep(1)
                other.rollback()
                time.sleep(0.2)

    thread = threading.Thread(target=lock)
    thread.start()
    locked.wait()
    find(trials=6, study="mine", pruner="none")
    thread.join()
    assert [row["state"] for row in table()] == ["complete"] * 6


@pytest.mark.slow
def test_a_storage_that_stays_locked_or_is_not_there_is_one_line(
    server: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "PATIENCE", 0.1)
    find(trials=1, study="mine")
    with closing(sqlite3.connect("outputs/studies/mine/study.db")) as other:
        other.execute("begin exclusive")
        with pytest.raises(ConfigError, match="storage=outputs/studies/mine: cannot be used .*locked"):
            find(trials=2, study="mine")
    for storage in ("sqlite:////nowhere/at/all.db", "nonsense"):
        with pytest.raises(ConfigError, match=f"storage={storage}: cannot be used"):
            find(trials=1, storage=storage)
    with pytest.raises(ConfigError, match="storage=127.0.0.1:1/x: cannot be used") as error:
        find(trials=1, storage="postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(error.value)
    with pytest.raises(ConfigError, match="study=a/b: expected letters"):
        find(trials=1, study="a/b")


@pytest.mark.slow
def test_the_winner_of_fresh_seeds_is_registered_and_promoted_once(server: MlflowClient) -> None:
    name, options = "vlx-nlvr2-student", {"trials": 6, "promote": True, "study": "mine"}
    best = find(**options)
    (version,) = server.search_model_versions(f"name = '{name}'")
    parent, children = runs(server)
    assert server.get_model_version_by_alias(name, "champion").version == version.version
    assert version.tags["study"] == "mine" and version.tags["study_run"] == parent.info.run_id
    (row,) = [row for row in table() if row["score"] == best]
    assert version.tags["study_trial"] == str(row["number"]) and float(version.tags["study_score"]) == best
    fresh = [run for run in children if run.info.run_name.startswith("best settings, seed")]
    assert [run.info.run_name[-1] for run in fresh] == ["1", "2", "3"]
    (winner,) = [run for run in fresh if run.info.run_id == version.run_id]
    assert winner.info.run_name[-1] == "2"  # even seeds are better
    assert {run.info.status for run in fresh} == {"FINISHED"}
    find(**options)
    assert len(server.search_model_versions(f"name = '{name}'")) == 1 and len(runs(server)[1]) == len(children)


@pytest.fixture(autouse=True)
def no_logging_of_optuna() -> Iterator[None]:
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)
