"""CLIP-ViL by the entry points: two stages, each from the version before by name, a task, its scores and an answer."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from entrypoints import evaluate, finetune, predict
from entrypoints.pretrain import main
from vlx.config import EvaluateConfig, FinetuneConfig, PredictConfig, PretrainConfig
from vlx.errors import ConfigError
from vlx.recipes.corpus import open_corpus

SMALL = {
    "model": "clip_vil", "corpus_size": 300, "val_images": 5, "test_images": 5, "max_text_tokens": 20,
    "hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vision_width": 4, "sampled_grid_features": 3,
    "vision_lr": 0.05, "vision_momentum": 0.9, "steps": 12, "warmup_steps": 2, "batch_size": 32, "log_every": 4,
}  # fmt: skip


def test_stage_two_starts_from_the_registered_version_of_stage_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    main(PretrainConfig(objectives="mlm,itm", **SMALL))
    main(PretrainConfig(weights="models:/vlx-pretrained-clip-vil/1", **SMALL))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    one, two = (client.get_model_version("vlx-pretrained-clip-vil", number) for number in ("1", "2"))
    assert (one.tags["stage"], one.tags["objectives"]) == ("1", "mlm,itm")
    assert (two.tags["stage"], two.tags["objectives"]) == ("2", "mlm,itm,qa")
    first, second = (client.get_run(version.run_id) for version in (one, two))
    shared = ("mlm", "mlm_accuracy", "itm", "itm_accuracy", "perplexity")
    assert second.info.run_name == "clip_vil pre-trained on pretrain, from vlx-pretrained-clip-vil/1"
    for name in shared:  # stage two starts where stage one ended
        before = client.get_metric_history(second.info.run_id, f"test/{name}")[0]
        assert before.value == pytest.approx(first.data.metrics[f"test/{name}"], rel=1e-4), name
    assert "test/qa" in second.data.metrics and "test/qa" not in first.data.metrics
    assert {"train/lr", "train/lr_vision", "train/padding_share"} <= second.data.metrics.keys()
    assert_a_task_starts_from_stage_two(client, tmp_path)


def assert_a_task_starts_from_stage_two(client: MlflowClient, tmp_path: Path) -> None:
    """VQA from the second stage; scored again and answering by the version's name, and served from an image."""
    options = {name: value for name, value in SMALL.items() if not name.startswith(("val_", "test_"))}
    weights = "models:/vlx-pretrained-clip-vil/2"
    finetune.main(FinetuneConfig(task="vqa", weights=weights, load_qa_head=True, **options))
    version = client.get_model_version("vlx-vqa-model", "1")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "clip_vil on vqa, from vlx-pretrained-clip-vil/2"
    scores = run.data.metrics
    assert {"train/lr", "train/lr_vision", "model/flops"} <= scores.keys()
    uri = "models:/vlx-vqa-model/1"
    data = {"task": "vqa", "corpus_size": options["corpus_size"]}
    assert evaluate.main(EvaluateConfig(model=uri, **data)) == scores["test/accuracy"]
    corpus = open_corpus(FinetuneConfig(**data))
    image = corpus.examples("vqa", "val")[0]["image_ids"][0]
    answers = predict.main(PredictConfig(model=uri, text="What color is it?", images=image, top_k=3, **data))
    (tmp_path / "image.png").write_bytes(corpus.image_bytes(image) or b"")
    rows = pd.DataFrame({"text": ["What color is it?"], "image_0": [str(tmp_path / "image.png")]})
    (served,) = mlflow.pyfunc.load_model(uri).predict(rows).to_dict("records")
    assert len(answers) == 3
    assert (served["answer"], served["score"]) == (answers[0][0], pytest.approx(answers[0][1], rel=1e-4))
    with pytest.raises(ConfigError, match="features=a.npz: the model reads pixels"):
        predict.main(PredictConfig(model=uri, text="What color is it?", features="a.npz", **data))
    with pytest.raises(
        ConfigError, match="task=nlvr2: needs an architecture that reads 2 images an example, not model=clip_vil"
    ):
        finetune.main(FinetuneConfig(task="nlvr2", weights=weights, **options))
    with pytest.raises(ConfigError, match="vision_lr=0.1: .*expected model=clip_vil"):
        finetune.main(FinetuneConfig(task="vqa", vision_lr=0.1))
