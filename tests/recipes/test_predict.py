"""One text of the user reads what an example of the split reads."""

from pathlib import Path

import pytest

import vlx
from vlx import checkpoints
from vlx.config import PredictConfig
from vlx.corpora import Corpus
from vlx.evaluation.predict import predict
from vlx.recipes.predict import answer


@pytest.mark.parametrize("object_tags", [True, False])
def test_one_text_is_answered_as_in_the_split(
    object_tags: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Corpus, "tags", lambda corpus, image_id: ["what", "color"])
    corpus = vlx.corpus("synthetic", task="vqa", size=40, work_dir=tmp_path)
    task = vlx.task("vqa", corpus)
    sizes = {"layers": 1, "hidden_size": 16, "heads": 2, "intermediate_size": 16}
    model = vlx.model("oscar", task, corpus, object_tags=object_tags, **sizes)
    checkpoints.save(tmp_path / "model", model)
    test = task.datasets(corpus, like=model).test
    row = test.examples[0]
    cfg = PredictConfig(
        task="vqa", model=str(tmp_path / "model"), text=row["text"], images=row["image_ids"][0], top_k=1,
        corpus=str(corpus.path),
    )  # fmt: skip
    [(_, score)] = answer(cfg)
    assert score == pytest.approx(predict(model.model, test.first(1)).max(), rel=1e-4)
