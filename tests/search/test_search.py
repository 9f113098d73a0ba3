"""A study as a whole: its runs, its table, its preset, its samplers and pruners, its promoted model."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.search.helpers import runs, table
from tests.search.toy import find, quality
from vlx import tracking
from vlx.config import DistillConfig, parse
from vlx.errors import ConfigError


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
    expected = {"complete": ("FINISHED", "complete"), "pruned": ("KILLED", "pruned")}
    for row, child in zip(rows, children, strict=True):
        assert (child.info.status, child.data.tags["vlx.trial_state"]) == expected[row["state"]]
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
    find(trials=4, options="--batch_size=32", seed=7, pruner="none")
    (preset,) = Path("outputs/studies").glob("*/best.yaml")
    best = max((row for row in table() if row["state"] == "complete"), key=lambda row: row["score"])
    cfg = parse(DistillConfig, [f"--preset={preset}"])
    assert best["number"] > 0  # not the defaults
    assert (cfg.alpha, cfg.lr, cfg.batch_size) == (best["alpha"], best["lr"], 32)
    assert not {"seed", "work_dir", "baseline", "eval_every"} & set(yaml.safe_load(preset.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "cmaes"])
def test_a_sampler_by_name_and_no_pruning(sampler: str, server: MlflowClient) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="sampler=cmaes needs the package cmaes")
    find(trials=8, sampler=sampler, pruner="none")
    assert Counter(row["state"] for row in table()) == {"complete": 8}
    assert len({row["alpha"] for row in table()}) == 8


def test_a_sampler_whose_package_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
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
@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_a_pruner_by_name(pruner: str, server: MlflowClient) -> None:
    find(trials=10, sampler="random", pruner=pruner, seed=1)
    states = Counter(row["state"] for row in table())
    assert states["pruned"] > 0 and states["complete"] > 0 and sum(states.values()) == 10
    assert all(row["evaluations"] < 10 for row in table() if row["state"] == "pruned")


@pytest.mark.slow
def test_several_seeds_are_averaged_and_bad_settings_end_early(server: MlflowClient) -> None:
    best = find(trials=6, sampler="random", seeds=3)
    rows = table()
    parent, descendants = runs(server)
    parent_ids = {run.info.run_id: run.data.tags["mlflow.parentRunId"] for run in descendants}
    trials = [run for run in descendants if parent_ids[run.info.run_id] == parent.info.run_id]
    by_number = {run.data.tags["vlx.trial"]: run for run in trials}
    assert len(by_number) == 6
    num_seeds = Counter(parent_ids.values())
    for row in rows:
        trial = by_number[str(row["number"])]
        assert num_seeds[trial.info.run_id] == (3 if row["state"] == "complete" else 2)
        assert trial.info.status == ("FINISHED" if row["state"] == "complete" else "KILLED")
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    seeds = [quality(DistillConfig(seed=seed)) for seed in (0, 1, 2)]
    assert rows[0]["score"] == pytest.approx(sum(seeds) / 3 * (1 - 2.718281828**-5)) and DistillConfig().seed == 0
    assert best >= rows[0]["score"]


@pytest.mark.slow
def test_two_objectives_give_a_pareto_front(server: MlflowClient) -> None:
    best = find(trials=6, second_objective="latency", sampler="random")
    rows = table()
    parent, _ = runs(server)
    assert all(row["state"] == "complete" and row["cost"] == pytest.approx(1 + row["temperature"]) for row in rows)
    assert best == max(row["score"] for row in rows)
    by_cost = sorted(rows, key=lambda row: row["cost"])
    front = [row for index, row in enumerate(by_cost) if all(row["score"] > each["score"] for each in by_cost[:index])]
    assert tracking.pareto_front(rows) == front
    assert "figures/pareto.png" in {file.path for file in server.list_artifacts(parent.info.run_id, "figures")}


@pytest.mark.slow
def test_the_same_command_resumes_the_study(server: MlflowClient, tmp_path: Path) -> None:
    options = {"study": "mine", "pruner": "none"}
    find(trials=4, **options)
    before = table()
    assert find(trials=4, **options) == max(row["score"] for row in before)
    assert table() == before
    find(trials=8, **options)
    parent, children = runs(server)
    assert parent.info.status == "FINISHED" and len(children) == 8
    assert table()[:4] == before and [row["number"] for row in table()] == list(range(8))
    find(trials=8, work_dir=str(tmp_path / "uninterrupted"), **options)
    assert [row["alpha"] for row in table(tmp_path / "uninterrupted")] == [row["alpha"] for row in table()]
    with pytest.raises(ConfigError, match="study=mine: was made with other options"):
        find(trials=4, options="--batch_size=32", **options)


@pytest.mark.slow
def test_the_winner_of_fresh_seeds_is_registered_and_promoted_once(server: MlflowClient) -> None:
    name = "vlx-nlvr2-student"
    options = {"trials": 3, "promote": True, "study": "mine"}
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
