"""A run that is a trial of a search."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from vlx import tracking
from vlx.tracking import search_report


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
    (model / "vlx.json").write_text(json.dumps({"num_images": 1}))
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


class Page:
    """A run that keeps what it is given."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.figures: dict[str, Figure] = {}
        self.metrics: list[tuple[dict[str, float], int]] = []

    def log_text(self, text: str, to: str) -> None:
        self.texts[to] = text

    def log_figure(self, figure: Figure, to: str) -> None:
        figure.canvas.draw()
        self.figures[to] = figure

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        self.metrics += [(metrics, step)] if metrics else []


def row(number: int, score: float | None, state: str = "complete", **fields: Any) -> dict[str, Any]:
    made = {"number": number, "state": state, "score": score, "cost": None, "looks": 3, "ended": 10.0 + number}
    return made | {"run": f"r{number}", "note": "", "settings": {"lr": 10.0**-number, "method": "kd"}} | fields


def test_a_search_is_shown_whatever_its_trials_are() -> None:
    rows = [
        row(1, 0.5),
        row(2, 0.7, settings={"lr": 0.1, "method": "mkd", "beta": 2.0}),
        row(3, 0.2, "pruned"),
        row(4, None, "failed", settings={}),
        row(5, 0.7, "running", ended=0.0),
    ]
    page = Page()
    search_report.log_search(page, rows, importances={"lr": 0.75, "method": 0.25}, logs={"lr"}, cost="")  # type: ignore[arg-type]
    assert set(page.figures) == {
        f"figures/{name}.png" for name in ("slice", "parallel", "contour-lr-method", "importances")
    }
    told = json.loads(page.texts["trials.table.json"])
    assert told["columns"][-3:] == ["lr", "method", "beta"] and [line[0] for line in told["data"]] == [1, 2, 3, 4, 5]
    assert told["data"][3][-3:] == [None, None, None]
    panels = page.figures["figures/slice.png"].axes
    assert [axes.get_xlabel() for axes in panels] == ["lr\n0.001 to 0.1, log", "method\nkd, mkd", "beta\n2 to 2"]
    whole, pruned = (dots.get_offsets() for dots in panels[0].collections)
    assert np.allclose(sorted(whole[:, 1]), [0.5, 0.7]) and np.allclose(pruned, [[0.0, 0.2]])
    for few in ([], rows[3:4], rows[:1], [row(1, 0.5), row(2, 0.5)]):
        page = Page()
        search_report.log_search(page, few, importances={}, logs=(), cost="")  # type: ignore[arg-type]
        assert "trials.table.json" in page.texts and not any("contour" in name for name in page.figures)


def test_the_best_so_far_goes_by_when_trials_ended() -> None:
    page = Page()
    rows = [
        row(0, 0.5, ended=30.0),
        row(1, 0.4, ended=10.0),
        row(2, 0.9, "pruned", ended=20.0),
        row(3, 0.9, ended=0.0, state="running"),
    ]
    search_report.log_progress(page, rows)  # type: ignore[arg-type]
    best = [(metrics["search/best"], step) for metrics, step in page.metrics if "search/best" in metrics]
    assert best == [(0.4, 1), (0.4, 2), (0.5, 3)]
    assert {(metrics["search/score"], step) for metrics, step in page.metrics if "search/score" in metrics} == {
        (0.4, 1),
        (0.5, 0),
    }


def test_nothing_on_the_front_is_beaten_at_its_cost() -> None:
    costs = {0: (0.5, 3.0), 1: (0.6, 2.0), 2: (0.4, 1.0), 3: (0.6, 4.0), 4: (0.9, 9.0), 5: (0.3, 1.0)}
    rows = [row(number, score, cost=cost) for number, (score, cost) in costs.items()] + [row(6, None, "failed")]
    assert [each["number"] for each in tracking.front(rows)] == [2, 1, 4]
    page = Page()
    search_report.log_search(page, rows, importances={}, logs=(), cost="latency")  # type: ignore[arg-type]
    (line,) = page.figures["figures/pareto.png"].axes[0].lines
    assert line.get_xydata().tolist() == [[1.0, 0.4], [2.0, 0.6], [9.0, 0.9]]
