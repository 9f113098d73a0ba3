import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from mlflow.entities import Param

from vlx import tracking
from vlx.errors import UserError
from vlx.tracking import runs, store

STATUS = {
    "returned": ("FINISHED", 0), "exception": ("FAILED", 1), "exit_0": ("FINISHED", 0), "exit_3": ("FAILED", 3),
    "keyboard": ("KILLED", 130), "sigint": ("KILLED", 130), "sigterm": ("KILLED", 143), "sighup": ("KILLED", 129),
    "sigterm_at_a_step": ("KILLED", 143),
    "sigterm_after_the_last_step": ("KILLED", 143),
    "sigterm_in_a_nested_run": ("KILLED", 143), "sigint_twice": ("KILLED", 130), "sigkill": ("RUNNING", -9),
}  # fmt: skip


def open_run(options: Any, folder: Path, name: str = "a run", **more: Any) -> Any:
    return tracking.run(options, name=name, description="what it does", folder=folder, **more)


@pytest.mark.slow
def test_every_ending_has_its_true_status_and_a_resumed_run_doubles_nothing(
    server: Any, options: Any, tmp_path: Path
) -> None:
    command = [sys.executable, str(Path(__file__).with_name("endings.py")), str(tmp_path / "runs")]
    environment = os.environ | {"PYTHONPATH": str(Path(runs.__file__).parents[2])}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    codes = json.loads(ended.stdout)
    by_name = {run.info.run_name: run for run in server.runs()}
    assert {name: (by_name[name].info.status, code) for name, code in codes.items()} == STATUS
    assert by_name["nested"].info.status == "KILLED" and by_name["complete"].info.status == "FINISHED"
    assert not (tmp_path / "runs" / "sigterm_after_the_last_step" / "artifacts" / "later.txt").exists()
    assert by_name["exception"].data.tags["vlx.error"] == "ValueError: broken"
    at_step = server.history(by_name["sigterm_at_a_step"].info.run_id, "loss")
    assert [step for step, _ in at_step] == list(range(7))  # the signal came in step 5, was seen after step 6
    assert (tmp_path / "runs" / "sigterm_at_a_step" / "artifacts" / "checkpoint.txt").is_file()
    assert by_name["sigint_twice"].data.metrics == {"first": 1.0}

    killed = by_name["sigkill"].info.run_id
    with open_run(options(), tmp_path / "runs" / "other"):  # the next run closes dead ones
        closed_run = server.client.get_run(killed).info
    last = server.client.get_metric_history(killed, "loss")[-1].timestamp
    assert (closed_run.status, closed_run.end_time) == ("KILLED", last)
    with open_run(options(), tmp_path / "runs" / "sigkill") as run:
        assert run.id == killed and server.client.get_run(killed).info.status == "RUNNING"
        for step in range(7, 14):  # its checkpoint was of step 6
            run.log_metrics({"loss": float(step)}, step=step)
    assert server.history(killed, "loss") == [(step, float(step)) for step in range(14)]
    assert server.client.get_run(killed).info.status == "FINISHED"


def test_a_run_carries_options_tags_metrics_data_and_files(server: Any, options: Any, tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    source.mkdir()
    (source / "a.csv").write_text("1,True\n")
    with open_run(options(note='it\'s a "b"\n$(c) — d'), tmp_path / "run", tags={"vlx.task": "nlvr2"}) as run:
        run.log_metrics({"train/loss": 0.5, "recall@1": float("nan"), "big": float("inf")}, step=3)
        run.log_input(name="corpus/dev", digest="abc", source=source, context="validation", profile={"examples": 3})
        run.log_artifact(source / "a.csv", to="predictions")
        run.log_artifact(source, to="folders")
        run.log_figure(Figure(figsize=(2, 2)), "figures/x.png")
        run.log_text('{"columns": ["a"], "data": [[1]]}', "predictions/dev.table.json")
    (logged,) = server.runs()
    assert logged.info.run_id == run.id and logged.info.run_name == "a run"
    assert logged.data.params["config/lr"] == "0.0001" and logged.data.params["config/quiet"] == "False"
    assert logged.data.params["config/note"] == 'it\'s a "b"\n$(c) — d'
    tags = logged.data.tags
    assert tags["mlflow.note.content"] == "what it does" and tags["vlx.task"] == "nlvr2"
    assert tags["vlx.process"].split()[0] == str(os.getpid()) and tags["vlx.version"]
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "predictions/dev.table.json", "type": "table"}]
    (nan,) = server.client.get_metric_history(run.id, "recall_1")
    assert nan.value != nan.value and logged.data.metrics["train/loss"] == 0.5 and logged.data.metrics["big"] > 1e308
    (dataset,) = logged.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.tags[0].value) == ("corpus/dev", "validation")
    artifacts = Path(logged.info.artifact_uri.removeprefix("file://"))
    assert artifacts == server.folder / "mlruns" / "vlx" / run.id / "artifacts"
    assert (artifacts / "predictions" / "a.csv").read_text() == "1,True\n"
    assert (artifacts / "folders" / "corpus" / "a.csv").read_text() == "1,True\n"
    assert json.loads((artifacts / "config.json").read_text())["lr"] == 1e-4
    assert (artifacts / "figures" / "x.png").is_file()
    experiment = server.client.get_experiment(logged.info.experiment_id)
    assert experiment.name == "vlx" and experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_resumed_run_with_another_option_keeps_the_param_and_tags_the_change(
    server: Any, options: Any, tmp_path: Path
) -> None:
    for lr in (1e-4, 5e-5):
        with open_run(options(lr=lr), tmp_path / "run") as run:
            pass
    (logged,) = server.runs()
    assert logged.info.run_id == run.id and logged.info.status == "FINISHED"
    assert logged.data.params["config/lr"] == "0.0001" and logged.data.tags["config/lr"] == "5e-05"


def launched(server: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `mlflow run` does before it starts the entry point."""
    run = server.client.create_run(server.experiment, run_name=name)
    server.client.log_batch(run.info.run_id, params=[Param("task", "nlvr2"), Param("note", "''"), Param("lr", "1e-4")])
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", server.experiment)
    return run.info.run_id


@pytest.mark.parametrize(("name", "displayed"), [("silent-owl-12", "a run"), ("chosen", "chosen")])
def test_the_run_of_mlflow_run_is_adopted_with_its_params_and_a_given_name(
    server: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, displayed: str
) -> None:
    ready = launched(server, name, monkeypatch)
    with open_run(options(), tmp_path / "run") as outer:
        assert outer.id == ready and "MLFLOW_RUN_ID" not in os.environ
        with open_run(options(), tmp_path / "teacher", "teacher") as teacher:
            assert teacher.id != ready
    adopted = server.client.get_run(ready)
    assert adopted.info.run_name == displayed and adopted.info.status == "FINISHED"
    assert adopted.data.params["lr"] == "1e-4" and adopted.data.params["config/lr"] == "0.0001"
    assert len(server.runs()) == 2


def test_mlflow_run_on_a_folder_with_a_run_continues_that_run_and_links_to_it(
    server: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError), open_run(options(), tmp_path / "run") as first:
        raise ValueError("stop")
    fresh = launched(server, "silent-owl-12", monkeypatch)
    with open_run(options(), tmp_path / "run") as second:
        second.log_metrics({"loss": 1.0}, step=1)
    assert second.id == first.id
    continued, real = server.client.get_run(fresh), server.client.get_run(first.id)
    assert real.info.status == continued.info.status == "FINISHED" and real.data.tags["vlx.error"] == ""
    assert continued.data.tags["vlx.continues"] == continued.data.tags["mlflow.parentRunId"] == real.info.run_id
    assert continued.info.run_name == "a run (continued)" and not continued.data.metrics


def test_a_killed_run_that_mlflow_run_marks_failed_is_corrected_by_the_next(
    server: Any, options: Any, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(options(), tmp_path / "run") as run:
        raise KeyboardInterrupt
    server.client.set_terminated(run.id, "FAILED", end_time=123)  # what MLflow does after a non-zero exit code
    with open_run(options(), tmp_path / "next"):
        pass
    corrected = server.client.get_run(run.id).info
    assert (corrected.status, corrected.end_time) == ("KILLED", 123)


def test_a_deleted_experiment_holds_back_everything_and_loses_nothing(
    server: Any, options: Any, tmp_path: Path, quick_retries: None, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = server.experiment
    server.client.delete_experiment(experiment)
    with open_run(options(), tmp_path / "run") as run:
        run.log_metrics({"loss": 1.0}, step=1)
    assert "must be in the 'active' state" in caplog.text
    server.client.restore_experiment(experiment)
    assert tracking.sync(tmp_path / "run") == 1
    assert [logged.data.metrics for logged in server.runs()] == [{"loss": 1.0}]


def test_a_missing_file_raises_and_a_file_deleted_before_it_is_sent_is_skipped(
    server: Any, options: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(options(), tmp_path / "run") as run:
        with pytest.raises(FileNotFoundError):
            run.log_artifact(tmp_path / "missing")
        run.journal.append("artifact", path="gone.txt", to="")
        run.log_text("b", "b.txt")
    assert [file.path for file in server.client.list_artifacts(run.id)] == ["b.txt", "config.json"]
    assert "artifact not taken" in caplog.text and server.client.get_run(run.id).info.status == "FINISHED"


def test_a_child_shows_under_its_parent(server: Any, options: Any, tmp_path: Path) -> None:
    with open_run(options(), tmp_path / "run") as parent:
        with open_run(options(), tmp_path / "run" / "baseline", "baseline", parent=parent) as child:
            pass
    assert server.client.get_run(child.id).data.tags["mlflow.parentRunId"] == parent.id


def test_a_run_that_was_deleted_in_the_store_is_sent_from_the_start(server: Any, options: Any, tmp_path: Path) -> None:
    with open_run(options(), tmp_path / "run") as run:
        run.log_metrics({"loss": 1.0}, step=1)
    server.client.delete_run(run.id)
    with open_run(options(), tmp_path / "run") as resumed:
        resumed.log_metrics({"loss": 2.0}, step=2)
    assert resumed.id != run.id
    assert server.history(resumed.id, "loss") == [(1, 1.0), (2, 2.0)]


def test_a_dead_server_stops_nothing_and_sync_sends_all_with_its_own_times(
    server: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_retries: None
) -> None:
    server.take_down()
    with open_run(options(), tmp_path / "all" / "run") as run:
        run.log_metrics({"loss": 1.0}, step=1)
        assert run.id == run.uuid and tracking.links(run) == []
        with open_run(options(), tmp_path / "all" / "run" / "baseline", "baseline", parent=run):
            pass
    with pytest.raises(UserError, match="0 of 2 runs are sent .*FileExistsError"):
        tracking.sync(tmp_path / "all")
    server.bring_back()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere/mlflow.db")
    assert tracking.sync(tmp_path / "all") == tracking.sync(tmp_path / "all") == 2
    parent, child = server.runs()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    (point,) = server.client.get_metric_history(parent.info.run_id, "loss")
    assert parent.info.start_time <= point.timestamp <= parent.info.end_time and parent.info.status == "FINISHED"
    assert not (tmp_path / "elsewhere").exists()


def test_sync_of_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no journal.jsonl"):
        tracking.sync(tmp_path)


def test_links_open_the_machine_learning_pages_without_the_password(server: Any, options: Any, tmp_path: Path) -> None:
    with open_run(options(), tmp_path / "run") as run:
        pass
    run.uri = "https://me:secret@tracking.example/base/"
    links = tracking.links(run)
    assert links[0].startswith(f"https://tracking.example/base/#/experiments/{server.experiment}/runs/{run.id}/")
    assert all(link.endswith("?workflowType=machine_learning") and "secret" not in link for link in links)


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_the_environment_may_name_another_experiment(
    server: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    experiment = server.client.create_experiment("other", str(tmp_path / "art"))
    monkeypatch.setenv(variable, "other" if variable.endswith("NAME") else experiment)
    with open_run(options(), tmp_path / "run") as run:
        assert run.uploader.state.experiment_id == experiment
    assert server.client.get_experiment_by_name("vlx") is None


def test_the_default_store_is_the_project_s_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "MLproject").write_text("name: vlx\n")
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///own.db")
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/deeper/own.db"


def test_a_process_is_alive_dead_or_another_one(server: Any) -> None:
    tags_of_this = store.process_tags()
    pid, started = tags_of_this["vlx.process"].split()
    cases = {
        "this process": ({}, True),
        "dead": ({"vlx.process": f"4000000 {started}"}, False),
        "pid used again": ({"vlx.process": f"{pid} 1.0"}, False),
        "not vlx's": ({"vlx.process": ""}, False),
    }
    for name, (changes, alive) in cases.items():
        tags = tags_of_this | changes
        server.client.create_run(server.experiment, run_name=name, tags=tags)
        assert store.is_alive(tags["vlx.process"]) is alive, name
    container = tags_of_this | {"vlx.host": f"{tags_of_this['vlx.host']}1", "vlx.process": "4000000 1.0"}
    server.client.create_run(server.experiment, run_name="in another container", tags=container)
    store.close_dead_runs(server.client, server.experiment)
    running = {run.info.run_name for run in server.runs() if run.info.status == "RUNNING"}
    assert running == {"this process", "in another container"}


@pytest.mark.slow
def test_two_processes_may_make_the_same_fresh_database(tmp_path: Path) -> None:
    code = "import sys; from vlx.tracking import store; print(store.experiment_id(store.connect(sys.argv[1])))"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/new/mlflow.db"]
    environment = os.environ | {"PYTHONPATH": str(Path(runs.__file__).parents[2])}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate(timeout=200)[0].strip(), process.returncode) for process in both] == [("1", 0)] * 2
    shutil.rmtree(tmp_path / "new")
