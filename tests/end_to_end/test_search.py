"""Search on real training, on PostgreSQL, and as a person sees it."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from entrypoints import distill, finetune, search
from tests.end_to_end import chromium, postgres
from tests.search.helpers import table
from tests.search.toy import find
from vlx import tracking
from vlx.config import DistillConfig, SearchConfig, parse
from vlx.tracking import store

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--corpus_size=80 --teacher_steps=24 --steps=24 --warmup_steps=4 --train_examples=0 --batch_size=8 --precision=fp32"
    " --hidden_size=16 --heads=2 --intermediate_size=16 --layers=2 --student_layers=1 --eval_every=6 --log_every=4"
)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def test_distillations_are_searched_with_one_teacher_and_the_winner_is_promoted(client: MlflowClient) -> None:
    search.main(SearchConfig(trials=4, seed=1, promote=True, options=SMALL))
    rows = table(Path("outputs"))
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    runs = client.search_runs([store.experiment_id(client)])
    (parent,) = [run for run in runs if run.info.run_name == "search of distill"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    (teacher,) = [run for run in runs if run not in children and run is not parent]
    assert teacher.data.tags["vlx.role"] == "teacher" and len(children) == 4 + 3
    assert len(list(Path("outputs/teachers").glob("nlvr2-*"))) == 1
    trials = [run for run in children if "vlx.trial" in run.data.tags]
    assert not any(key.startswith("test/") for run in trials for key in run.data.metrics)
    assert {name.name for name in client.search_registered_models()} == {"vlx-nlvr2-teacher", "vlx-nlvr2-student"}
    (version,) = client.search_model_versions("name = 'vlx-nlvr2-student'")
    assert version.tags["study_run"] == parent.info.run_id and version.tags["teacher"] == "models:/vlx-nlvr2-teacher/1"
    assert client.get_model_version_by_alias("vlx-nlvr2-student", "champion").version == version.version
    (preset,) = Path("outputs/studies").glob("*/best.yaml")
    cfg = parse(DistillConfig, [f"--preset={preset}"])
    assert isinstance(distill.main(cfg), float)
    assert len(list(Path("outputs/teachers").glob("nlvr2-*"))) <= 2


def test_a_pruned_training_keeps_its_numbers_and_not_its_weights(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lr: {low: 1.0e-12, high: 1.0e-2, log: true}\neval_every: 3\n")
    changes = {"--corpus_size=80": "--corpus_size=400", "--eval_every=6": "--difficulty=easy", "steps=24": "steps=60"}
    options = f"{SMALL} --student_init=random"
    for before, after in changes.items():
        options = options.replace(before, after)
    search.main(SearchConfig(trials=8, sampler="random", space=str(tmp_path / "mine.yaml"), options=options))
    rows = table(Path("outputs"))
    runs = client.search_runs([store.experiment_id(client)], "tags.`vlx.trial` != ''")
    states = Counter(row["state"] for row in rows)
    assert set(states) <= {"complete", "pruned"} and states["pruned"] > 0
    for run in runs:
        row = rows[int(run.data.tags["vlx.trial"])]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/accuracy")]
        assert row["run"] == run.info.run_id and max(steps) == 3 * row["evaluations"]
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[row["state"]]
    weights = [path.parent.parent.name for path in Path("outputs/runs").glob("*/training/best-*")]
    assert len(weights) == states["complete"]


def test_fine_tuning_is_searched_for_accuracy_and_size(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "sizes.yaml").write_text("layers: {low: 1, high: 3}\nlr: {low: 1.0e-4, high: 1.0e-2, log: true}\n")
    words = SMALL.replace("--teacher_steps=24 ", "").replace("--layers=2 --student_layers=1 ", "")
    search.main(
        SearchConfig(verb="finetune", trials=3, second_objective="parameters", space="sizes.yaml", options=words)
    )
    sizes = {row["layers"]: row["cost"] for row in table(Path("outputs"))}
    assert sizes[2] > 1000 and list(sizes.values()) == [sizes[layers] for layers in sizes]
    assert [sizes[layers] for layers in sorted(sizes)] == sorted(sizes.values())
    assert finetune.main is not distill.main


def test_pre_training_is_searched_by_its_validation_loss(client: MlflowClient) -> None:
    words = SMALL.replace("--teacher_steps=24 ", "").replace(" --student_layers=1", "")
    search.main(SearchConfig(verb="pretrain", trials=2, pruner="none", options=f"--model=oscar {words}"))
    assert [(row["state"], row["score"] < 0) for row in table(Path("outputs"))] == [("complete", True)] * 2
    runs = client.search_runs([store.experiment_id(client)], "tags.`vlx.trial` != ''")
    assert len(runs) == 2 and not client.search_registered_models()
    assert not any(key.startswith("test/") for run in runs for key in run.data.metrics)


def test_mlflow_run_searches_and_joins(client: MlflowClient, tmp_path: Path) -> None:
    """The run that `mlflow run` makes is the search's own."""
    mlflow = [str(Path(sys.executable).with_name("mlflow")), "run", str(ROOT), "-e", "search", "--env-manager", "local"]
    given = {"trials": 2, "work_dir": tmp_path / "outputs"} | dict(pair[2:].split("=") for pair in SMALL.split())
    words = [word for key, value in given.items() for word in ("-P", f"{key}={value}")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        mlflow + words,
        env=os.environ | {"PATH": path, "MLFLOW_EXPERIMENT_NAME": "vlx"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    runs = client.search_runs([store.experiment_id(client)])
    (parent,) = [run for run in runs if run.info.run_name == "search of distill"]
    assert parent.data.params["trials"] == parent.data.params["config/trials"] == "2"
    assert Counter(run.data.tags.get("mlflow.parentRunId") for run in runs)[parent.info.run_id] == 2
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_postgresql_keeps_the_study_and_the_runs_of_two_machines(tmp_path: Path) -> None:
    with postgres.running() as url:
        client = store.connect(f"{url}/mlflow")
        variables = {"MLFLOW_TRACKING_URI": f"{url}/mlflow", "VLX_TOY": "slow"}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        words = ["--study=shared", "--trials=14", f"--storage={url}/study"]
        processes = []
        for machine in ("one", "two"):  # each with a disk of its own
            (tmp_path / machine).mkdir()
            command = [sys.executable, str(ROOT / "tests" / "search" / "toy.py"), *words]
            with (tmp_path / machine / "log.txt").open("wb") as log:
                here = {"cwd": tmp_path / machine, "env": os.environ | variables, "stdout": log, "stderr": log}
                processes.append(subprocess.Popen(command, **here))
            while not list((tmp_path / "one").glob("outputs/runs/toy-*")):  # the first leads
                assert processes[0].poll() is None, (tmp_path / "one" / "log.txt").read_text()[-3000:]
        for process, machine in zip(processes, ("one", "two"), strict=True):
            assert process.wait(200) == 0, (tmp_path / machine / "log.txt").read_text()[-3000:]
        runs = client.search_runs([store.experiment_id(client)])
    rows = table(tmp_path / "one" / "outputs")
    assert [row["number"] for row in rows] == list(range(14)) and len({row["lr"] for row in rows}) == 14
    assert set(row["state"] for row in rows) == {"complete", "pruned"}
    (parent,) = [run for run in runs if run.info.run_name == "search of distill"]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(int(run.data.tags["vlx.trial"]) for run in children) == list(range(14))
    assert len({run.data.tags["vlx.process"] for run in children}) == 2
    assert parent.info.status == "FINISHED" and "joining the study" in (tmp_path / "two" / "log.txt").read_text()
    assert tracking.pareto_front(rows)


def test_the_page_of_a_search_shows_its_figures(client: MlflowClient, tmp_path: Path) -> None:
    """The screenshots are written to the folder VLX_SCREENSHOTS, if it is set."""
    with chromium.browser() as page:
        find(trials=8, seed=1)
        runs = client.search_runs([store.experiment_id(client)])
        (parent,) = [run for run in runs if run.info.run_name == "search of distill"]
        with chromium.server(tmp_path / "mlflow.db", tmp_path) as address:
            place = f"{address}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"
            page.goto(f"{place}/artifacts?workflowType=machine_learning")
            page.get_by_text("figures", exact=True).click()
            for name in ("importances.png", "parallel.png", "slice.png", "contour-"):
                page.get_by_text(name).first.wait_for()
            page.get_by_text("slice.png").click()
            page.locator("img[src^='blob:'], img[src*='slice']").first.wait_for()
            screenshots = Path(os.environ.get("VLX_SCREENSHOTS", tmp_path))
            page.screenshot(path=screenshots / "search-artifacts.png")
            text = page.inner_text("body")
            assert "search of distill" in text and "trials.table.json" in text and "best.yaml" in text
            page.goto(f"{place}/model-metrics?workflowType=machine_learning")
            page.get_by_text("search/best").first.wait_for()
            page.screenshot(path=screenshots / "search-metrics.png")
        assert (screenshots / "search-artifacts.png").stat().st_size > 10_000
