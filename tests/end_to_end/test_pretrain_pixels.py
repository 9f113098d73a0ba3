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
from vlx.training import recipes

SMALL = {
    **{"model": "clip_vil", "corpus_size": 300, "val_images": 5, "test_images": 5, "max_text_tokens": 20},
    **{"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vision_width": 4, "kept_places": 3},
    **{"vision_lr": 0.05, "vision_momentum": 0.9, "steps": 12, "warmup_steps": 2, "batch_size": 32, "log_every": 4},
}


def test_stage_two_goes_on_from_the_registered_version_of_stage_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    main(PretrainConfig(objectives="words,matched", **SMALL))
    main(PretrainConfig(weights="models:/vlx-pretrained-clip-vil/1", **SMALL))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    one, two = (client.get_model_version("vlx-pretrained-clip-vil", number) for number in ("1", "2"))
    assert (one.tags["stage"], one.tags["objectives"]) == ("1", "words,matched")
    assert (two.tags["stage"], two.tags["objectives"]) == ("2", "words,matched,answers")
    first, second = (client.get_run(version.run_id) for version in (one, two))
    shared = ("words", "words_accuracy", "matched", "matched_accuracy", "perplexity")
    assert second.info.run_name == "clip_vil pre-trained on pretrain, from vlx-pretrained-clip-vil/1"
    for name in shared:  # stage two starts where stage one ended
        begun = client.get_metric_history(second.info.run_id, f"test/{name}")[0]
        assert begun.value == pytest.approx(first.data.metrics[f"test/{name}"], rel=1e-4), name
    assert "test/answers" in second.data.metrics and "test/answers" not in first.data.metrics
    assert {"train/lr", "train/lr_vision", "train/padding_share"} <= second.data.metrics.keys()
    assert_a_task_goes_on(client, tmp_path)


def assert_a_task_goes_on(client: MlflowClient, tmp_path: Path) -> None:
    """VQA from the second stage; scored again and asked by the version's name, and served from a picture."""
    own = {name: value for name, value in SMALL.items() if not name.startswith(("val_", "test_"))}
    weights = "models:/vlx-pretrained-clip-vil/2"
    finetune.main(FinetuneConfig(task="vqa", weights=weights, load_qa_head=True, **own))
    version = client.get_model_version("vlx-vqa-model", "1")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "clip_vil on vqa, from vlx-pretrained-clip-vil/2"
    scores = run.data.metrics
    assert {"train/lr", "train/lr_vision", "model/flops"} <= scores.keys()
    uri, data = "models:/vlx-vqa-model/1", {"task": "vqa", "corpus_size": own["corpus_size"]}
    assert evaluate.main(EvaluateConfig(model=uri, **data)) == scores["test/accuracy"]
    corpus = recipes.corpus_of(FinetuneConfig(**data))
    image = corpus.examples("vqa", "val")[0]["image_ids"][0]
    asked = predict.main(PredictConfig(model=uri, text="What color is it?", images=image, top=3, **data))
    (tmp_path / "picture.png").write_bytes(corpus.image_bytes(image) or b"")
    rows = pd.DataFrame({"text": ["What color is it?"], "image_0": [str(tmp_path / "picture.png")]})
    (served,) = mlflow.pyfunc.load_model(uri).predict(rows).to_dict("records")
    assert len(asked) == 3
    assert (served["answer"], served["score"]) == (asked[0][0], pytest.approx(asked[0][1], rel=1e-4))
    with pytest.raises(ConfigError, match="features=a.npz: the model reads pictures"):
        predict.main(PredictConfig(model=uri, text="What color is it?", features="a.npz", **data))
    with pytest.raises(ConfigError, match="task=nlvr2: a model that reads pictures names the answer about one"):
        finetune.main(FinetuneConfig(task="nlvr2", weights=weights, **own))
    with pytest.raises(ConfigError, match="vision_lr: of systems that read pictures; expected model=clip_vil"):
        FinetuneConfig(task="vqa", vision_lr=0.1)
