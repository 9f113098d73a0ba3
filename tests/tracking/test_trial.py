"""A run that is a trial of a search."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlx import tracking
from vlx.preprocessing import Preprocessing


def trial_of(parent: str, report: Callable[..., None] = lambda *_: None, **fields: Any) -> tracking.Trial:
    return tracking.Trial(parent, "alpha 0.5", {"vlx.trial": 3}, report, **fields)


def prune_at_step_2(best: float, step: int, last: bool) -> None:
    if step == 2:
        raise tracking.Pruned("not good enough")


def test_a_pruned_trial_is_killed_and_tagged_as_pruned(server: Any, options: Any, tmp_path: Path) -> None:
    with tracking.run(options(), name="search", description="", folder=tmp_path / "search") as parent:
        trial = trial_of(parent.uuid, prune_at_step_2)
        with pytest.raises(tracking.Pruned):
            with tracking.run(options(), name="a run", description="", folder=tmp_path / "run", trial=trial) as run:
                for step in (1, 2, 3):
                    run.log_metrics({"val/accuracy": step / 10}, step=step)
                    run.report(step / 10, step=step, last=step == 3)
    child = server.client.get_run(run.id)
    assert child.info.run_name == "alpha 0.5" and child.info.status == "KILLED"
    assert child.data.tags["mlflow.parentRunId"] == parent.id and child.data.tags["vlx.trial"] == "3"
    assert child.data.tags["vlx.trial_state"] == "pruned" and "vlx.error" not in child.data.tags
    assert server.history(run.id, "val/accuracy") == [(1, 0.1), (2, 0.2)]
    assert trial.run is run and trial.metrics == {"val/accuracy": 0.2}


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [(None, "FINISHED", "complete"), (ValueError("x"), "FAILED", "failed"), (KeyboardInterrupt(), "KILLED", "killed")],
)
def test_a_trial_is_tagged_with_how_it_ended(
    error: BaseException | None, status: str, state: str, server: Any, options: Any, tmp_path: Path
) -> None:
    def body() -> tracking.Run:
        with tracking.run(options(), name="", description="", folder=tmp_path / "run", trial=trial_of("")) as run:
            if error:
                raise error
        return run

    if error:
        with pytest.raises(type(error)):
            body()
    else:
        body()
    (logged,) = server.runs()
    assert (logged.info.status, logged.data.tags["vlx.trial_state"]) == (status, state)


def test_a_trial_registers_nothing_and_its_candidate_may_be_registered_later(
    server: Any, options: Any, tmp_path: Path
) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    Preprocessing(architecture="oscar", max_text_tokens=16).save(model)
    trial = trial_of("")
    with tracking.run(options(), name="", description="", folder=tmp_path / "run", trial=trial) as run:
        run.log_model(model, name="student", task="nlvr2", metrics={"test/accuracy": 0.5}, step=1)
        assert run.register("vlx-student", tags={"task": "nlvr2"}) is None
        with tracking.run(options(), name="", description="", folder=tmp_path / "run" / "b", parent=run) as baseline:
            baseline.log_model(model, name="baseline", task="nlvr2", metrics={"test/accuracy": 0.4}, step=1)
            assert baseline.register("vlx-baseline", tags={}) is None
    assert trial.candidate == ("vlx-student", {"task": "nlvr2"})
    assert not server.client.search_registered_models()
    with tracking.run(options(), name="", description="", folder=tmp_path / "run") as winner:
        assert winner.register(trial.candidate[0], tags=trial.candidate[1]) == "1"
    assert server.client.get_model_version("vlx-student", "1").run_id == winner.id == run.id


def test_a_trial_is_in_the_experiment_of_its_search_and_sync_sends_the_search_first(
    server: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_retries: None
) -> None:
    server.take_down()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the search")
    with tracking.run(options(), name="search", description="", folder=tmp_path / "studies" / "s") as parent:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
        trial = trial_of(parent.uuid)
        with tracking.run(options(), name="", description="", folder=tmp_path / "runs" / "r", trial=trial) as middle:
            below = trial_of(middle.uuid)
            with tracking.run(options(), name="", description="", folder=tmp_path / "a", trial=below):
                pass
    server.bring_back()
    assert tracking.sync(tmp_path) == 3
    experiment = server.client.get_experiment_by_name("of the search").experiment_id
    by_name = {run.info.run_name: run for run in server.client.search_runs([experiment])}
    assert len(server.client.search_runs([experiment])) == 3
    assert by_name["search"].data.tags.get("mlflow.parentRunId") is None
