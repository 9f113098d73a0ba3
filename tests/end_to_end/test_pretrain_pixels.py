"""CLIP-ViL's stages by the entry point: one from scratch, the next from its registered version by name."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from entrypoints.pretrain import main
from vlx.config import PretrainConfig

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
    for name in shared:  # stage two starts where stage one ended
        begun = client.get_metric_history(second.info.run_id, f"test/{name}")[0]
        assert begun.value == pytest.approx(first.data.metrics[f"test/{name}"], rel=1e-4), name
    assert "test/answers" in second.data.metrics and "test/answers" not in first.data.metrics
    assert {"train/lr", "train/lr_vision", "train/padding_share"} <= second.data.metrics.keys()
