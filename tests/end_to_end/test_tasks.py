"""Tasks of the synthetic corpus are learned through `mlflow run`, by some architecture, and beat their majority
baseline."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.end_to_end.test_main_job import mlflow_run

QUICK = {"corpus_size": 2_000, "eval_every": 100, "warmup_steps": 50, "val_images": 15, "test_images": 20}
SHALLOW = {"layers": 2, "lr": 0.001}  # learns as much in less time
NLVR = {"corpus_size": 4_000, "layers": 3, "intermediate_size": 128, "batch_size": 32, "schedule": "constant"}
TASKS = [  # task, architecture, further options, how far the test score must be above the majority baseline
    ("vqa", "lxmert", {"steps": 200}, 0.15),
    ("gqa", "vilbert", {"steps": 300}, 0.2),
    ("snli_ve", "oscar", {"steps": 200}, 0.3),  # text alone tells the neutral ones: 1/3 above the baseline
    ("refcoco", "vilbert", {"steps": 200}, 0.4),
    ("refcoco+", "oscar", {"steps": 150}, 0.4),
    ("refcocog", "lxmert", {"steps": 150}, 0.4),
    ("retrieval", "oscar", {"steps": 200}, 0.15),
    ("retrieval", "dual", {"steps": 100, "region_layers": 0}, 0.3),
    ("visual7w", "vilbert", {"steps": 200}, 0.3),
    ("guesswhat_pointing", "vilbert", {"steps": 200}, 0.2),
    ("vqa_rad", "lxmert", {"steps": 200}, 0.42),
    ("genome_qa", "oscar", {"steps": 150, **SHALLOW}, 0.15),
    ("vcr_q2a", "oscar", {"steps": 100, **SHALLOW}, 0.1),
    ("vcr_qa2r", "oscar", {"steps": 120, **SHALLOW}, 0.2),
    ("guesswhat", "oscar", {"steps": 350, "difficulty": "easy", **SHALLOW}, 0.05),
    ("nlvr2", "oscar", {"steps": 700, "difficulty": "easy"}, 0.1),
    ("nlvr", "oscar", {"steps": 1_000, "difficulty": "easy", "eval_every": 250, **NLVR}, 0.1),
]


@pytest.mark.parametrize(("task", "model", "options", "margin"), TASKS)
def test_a_task_is_learned(task: str, model: str, options: dict, margin: float, tmp_path: Path) -> None:
    work = {"work_dir": tmp_path / "outputs", "task": task, "model": model}
    mlflow_run(tmp_path, "finetune", **work, **(QUICK | options))
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    name = f"vlx-{task.replace('+', 'plus')}-model"
    version = client.get_model_version(name, "1")
    run = client.get_run(version.run_id)
    metric = "recall_mean" if task == "retrieval" else "accuracy"
    score, baseline = (run.data.metrics[f"test/{key}"] for key in (metric, "majority_baseline"))
    assert score > baseline + margin, f"{task}: {score:.3f}, baseline {baseline:.3f}"
    assert run.info.status == "FINISHED" and run.data.metrics["train/examples_per_second"] > 0
    predictions = {file.path for file in client.list_artifacts(run.info.run_id, "predictions")}
    assert any(path.endswith(".html") for path in predictions) and len(predictions) >= 3
