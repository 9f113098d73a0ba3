"""Loss and score of each kind of task of ViLBERT 12-in-1 beside their arithmetic."""

from math import exp, log

import pytest
import torch

from tests.parity.vilbert_tasks import KINDS

YES = log(1 + exp(-1.0))  # binary cross-entropy of a positive class at logit 1
NO = log(1 + exp(1.0))  # of a negative class


@pytest.mark.parametrize(
    ("kind", "logits", "targets", "loss", "score"),
    [
        ("VL-classifier", [[1.0, -1.0], [1.0, -1.0]], {"targets": [[1.0, 0.0], [0.0, 0.3]]}, None, [1.0, 0.0]),
        ("VL-classifier-GQA", [[1.0, -1.0]], {"targets": [[1.0, 0.0]]}, 2 * YES, [1.0]),
        ("VL-logit", [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], {"labels": [1, 0]}, None, [0.0, 1.0]),
        ("V-logit", [[1.0, -1.0, -10_000.0]], {"targets": [[0.0, 0.0, 0.0]]}, NO + YES, [0.0]),
        ("V-logit", [[1.0, 0.0], [1.0, 0.0]], {"targets": [[0.5, 0.9], [0.6, 0.0]]}, None, [0.0, 1.0]),
        ("V-logit-mc", [[9.0, 1.0, -1.0]], {"targets": [[0.0, 1.0]], "choices": [[2, 1]]}, 2 * YES, [1.0]),
        ("VL-binary-classifier", [[1.0, -1.0]], {"targets": [[1.0, 0.0]]}, YES, [1.0]),
        ("VL-tri-classifier", [[1.0, -1.0, -1.0]], {"targets": [[0.0, 0.0, 0.0]]}, (NO + 2 * YES) / 3, [0.0]),
    ],
)
def test_each_kind_of_task_has_the_published_loss_and_score(
    kind: str, logits: list, targets: dict[str, list], loss: float | None, score: list[float]
) -> None:
    scores = torch.tensor(logits)
    batch = {name: torch.tensor(value) for name, value in targets.items()}
    if loss is not None:
        assert KINDS[kind].loss(scores, batch).item() == pytest.approx(loss, rel=1e-5)
    assert KINDS[kind].score(scores, batch).tolist() == score
