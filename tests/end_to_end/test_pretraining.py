"""`pretrain` as a user runs it: a registered stage with what a reader looks for, another stage and a task from it."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from entrypoints import finetune, pretrain
from tests.end_to_end.test_main_job import artifacts, mlflow_run
from vlx.config import FinetuneConfig, PretrainConfig

SMALL = {"hidden_size": 16, "layers": 2, "region_layers": 1, "cross_layers": 1, "heads": 2, "intermediate_size": 16}
SHORT = {"corpus_size": 60, "steps": 6, "warmup_steps": 2, "batch_size": 16, "eval_every": 3, "log_every": 2}
OBJECTIVES = {
    "lxmert": {"mlm", "itm", "mrc_objects", "mrc_attributes", "mrfr", "qa"},
    "vilbert": {"mlm", "itm", "mrm"},
    "oscar": {"mlm", "itm"},
}


def newest(client: MlflowClient, name: str) -> mlflow.entities.model_registry.ModelVersion:
    return max(client.search_model_versions(f"name='{name}'"), key=lambda version: int(version.version))


@pytest.mark.parametrize("model", OBJECTIVES)
def test_a_stage_logs_its_objectives_and_another_starts_from_it_by_name(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    options = {**SMALL, **SHORT, "work_dir": str(tmp_path / "outputs"), "model": model}
    value = pretrain.main(PretrainConfig(**options, objectives="mlm,itm"))
    client = MlflowClient(uri)
    first = newest(client, f"vlx-pretrained-{model}")
    assert first.tags["stage"] == "1" and first.tags["objectives"] == "mlm,itm"
    assert float(first.tags["val/negative_loss"]) == pytest.approx(value, abs=1e-5)

    pretrain.main(PretrainConfig(**options, weights=f"models:/vlx-pretrained-{model}/1", loss_weights="mlm=2"))
    second = newest(client, f"vlx-pretrained-{model}")
    run = client.get_run(second.run_id)
    assert second.tags["stage"] == "2" and set(second.tags["objectives"].split(",")) == OBJECTIVES[model]
    for name in OBJECTIVES[model]:
        before, after = client.get_metric_history(run.info.run_id, f"test/{name}")
        assert (before.step, after.step > 0) == (0, True)
        assert {f"train/{name}", f"val/{name}"} <= run.data.metrics.keys()
    measured = {"val/mlm_accuracy", "val/perplexity", "val/itm_accuracy", "train/lr", "train/padding_share"}
    assert measured | {"train/examples_per_second"} <= run.data.metrics.keys()
    paths = artifacts(client, run)
    assert {"predictions/mscoco_minival.html", "predictions/mscoco_minival.table.json", "model_card.md"} <= paths
    table = json.loads(Path(mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="predictions/mscoco_minival.table.json")).read_text())  # fmt: skip
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert rows and all(len(row["label"].split()) == len(row["prediction"].split()) for row in rows)

    head = {"load_qa_head": model == "lxmert", "task": "vqa", "weights": f"models:/vlx-pretrained-{model}/2"}
    assert finetune.main(FinetuneConfig(**(options | {"corpus_size": 30, "test_images": 5} | head))) >= 0
    assert int(newest(client, "vlx-vqa-model").version) == 1


def test_mlflow_run_pre_trains_from_a_preset(tmp_path: Path) -> None:
    quick = {"corpus_size": 60, "steps": 4, "warmup_steps": 2, "eval_every": 4, "work_dir": tmp_path / "outputs"}
    output = mlflow_run(tmp_path, "pretrain", preset="vilbert-tiny", mrm_loss="mse", **quick)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(newest(client, "vlx-pretrained-vilbert").run_id)
    assert run.info.status == "FINISHED" and run.data.params["config/mrm_loss"] == "mse"
    assert "registered as vlx-pretrained-vilbert, version 1" in output
