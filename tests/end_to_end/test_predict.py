"""`finetune`, `evaluate` and `predict` as a user runs them, on a corpus small enough for a test."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest

from entrypoints import evaluate, finetune, predict
from vlx import corpora
from vlx.config import EvaluateConfig, FinetuneConfig, PredictConfig
from vlx.errors import ConfigError

SMALL = {"corpus_size": 120, "steps": 4, "warmup_steps": 1, "batch_size": 16, "eval_every": 2, "hidden_size": 16,
         "heads": 2, "intermediate_size": 16, "layers": 2}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")


@pytest.fixture(scope="module")
def models() -> dict[str, str]:
    """Task -> URI of the model trained for it."""
    return {}


def model_of(task: str, models: dict[str, str]) -> str:
    if task not in models:
        finetune.main(FinetuneConfig(task=task, **SMALL))
        models[task] = f"models:/vlx-{task}-model/1"
    return models[task]


@pytest.mark.parametrize(
    ("task", "suffix", "names"),
    [
        ("nlvr2", ".csv", {"accuracy", "consistency"}),
        ("vqa", ".json", {"accuracy", "accuracy_number", "accuracy_yes_no"}),
        ("gqa", ".json", {"accuracy", "accuracy_query", "distribution"}),
        ("retrieval", ".eval.json", {"recall_mean", "i2t_recall_at_1", "t2i_recall_at_10"}),
        ("refcoco", ".json", {"accuracy"}),
        ("snli_ve", ".csv", {"accuracy"}),
    ],
)
def test_a_task_is_trained_scored_and_its_file_written(
    task: str, suffix: str, names: set[str], models: dict[str, str]
) -> None:
    uri = model_of(task, models)
    small = {"corpus_size": SMALL["corpus_size"]}
    value = evaluate.main(EvaluateConfig(task=task, model=uri, split="", **small))
    path = predict.main(PredictConfig(task=task, model=uri, **small))
    assert isinstance(path, Path) and path.name.endswith(suffix) and path.stat().st_size > 20
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["1"], f"run_name = 'predict {uri}'")
    split = run.data.tags["vlx.split"]
    scores = {name.removeprefix(f"{split}/") for name in run.data.metrics}
    assert names <= scores, scores
    (scored,) = client.search_runs(["1"], f"run_name = 'evaluate {uri}'")
    assert value in scored.data.metrics.values()
    assert all(scored.data.metrics[name] == value for name, value in run.data.metrics.items())
    assert f"{split}/majority_baseline" in scored.data.metrics


def test_one_question_is_answered_with_probabilities(models: dict[str, str], place: Path) -> None:
    uri = model_of("vqa", models)
    options = {"task": "vqa", "model": uri, "corpus_size": SMALL["corpus_size"], "text": "What color is the circle?"}
    corpus = corpora.open(next((place / "outputs" / "corpora").glob("synthetic-*")))
    image = next(
        corpora.open(path).image_ids()[0]
        for path in (place / "outputs" / "corpora").glob("synthetic-*")
        if "vqa" in corpora.open(path).manifest["examples"]
    )
    answers = predict.main(PredictConfig(**options, images=image, top_k=3))
    assert isinstance(answers, list) and len(answers) == 3
    assert answers == sorted(answers, key=lambda pair: -pair[1]) and all(0 <= score <= 1 for _, score in answers)
    features, boxes = np.zeros((2, corpus.region_dim), np.float32), np.array([[0, 0, 0.5, 1], [0, 0, 1, 1]])
    np.savez(place / "mine.npz", features=features, boxes=boxes)
    assert len(predict.main(PredictConfig(**options, features=str(place / "mine.npz")))) == 5
    with pytest.raises(ConfigError, match="expected images=.* or features="):
        predict.main(PredictConfig(**options))
    with pytest.raises(ConfigError, match="images: found 2, task vqa is about 1"):
        predict.main(PredictConfig(**options, images=f"{image},{corpus.image_ids()[1]}"))


def test_the_submission_file_is_the_servers(models: dict[str, str]) -> None:
    path = predict.main(PredictConfig(task="vqa", model=model_of("vqa", models), corpus_size=SMALL["corpus_size"]))
    assert isinstance(path, Path)
    entries = json.loads(path.read_text())
    assert all(set(entry) == {"question_id", "answer"} and type(entry["question_id"]) is int for entry in entries)
