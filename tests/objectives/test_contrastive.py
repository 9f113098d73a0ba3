"""Contrastive loss and distillation of dual encoders, beside their arithmetic."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.models.helpers import PAIR, REGION_ENCODERS, batch_of, build
from vlx.errors import ConfigError
from vlx.models.heads import Head
from vlx.objectives import contrastive, kd_loss
from vlx.objectives.contrastive import contrastive_loss, embedding_kd, similarity_kd, teacher_similarity
from vlx.objectives.distillation import KD
from vlx.objectives.embedding import EMBEDDING
from vlx.objectives.supervised import logits_of


class FixedOutput(nn.Module):
    """A model that always gives the same vectors and scores."""

    def __init__(self, similarity: Tensor, pooled: Tensor | None = None) -> None:
        super().__init__()
        self.output = SimpleNamespace(scores={"similarity": similarity}, pooled=pooled)

    def forward(self, batch: dict[str, Tensor]) -> SimpleNamespace:
        return self.output


def batch_with(*labels: int) -> dict[str, Tensor]:
    return batch_of(len(labels), 1) | {"labels": torch.tensor(labels)}


def test_contrastive_loss_of_two_pairs() -> None:
    # Each of the four softmaxes gives e^2 / (e^2 + e^0) to the right one.
    similarity = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert contrastive_loss(similarity, torch.tensor([5, 9])).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_two_texts_of_one_image_share_the_target() -> None:
    # All scores equal: three candidates, whatever the target, log 3.
    assert contrastive_loss(torch.zeros(3, 3), torch.tensor([1, 1, 2])).item() == pytest.approx(math.log(3))
    # Rows 0 and 1: halves on the two that match, -(0.5 * log p0 + 0.5 * log p1) = log 2; row 2: 0.
    similarity = torch.tensor([[0.0, 0.0, -1e4], [0.0, 0.0, -1e4], [-1e4, -1e4, 0.0]])
    assert contrastive_loss(similarity, torch.tensor([1, 1, 2])).item() == pytest.approx(2 / 3 * math.log(2))


def test_contrastive_is_the_loss_on_labels_alone() -> None:
    losses = contrastive()(FixedOutput(torch.zeros(2, 2)), batch_with(0, 1))
    assert losses.total.item() == losses.parts["task"].item() == pytest.approx(math.log(2))


def test_the_methods_name_their_losses_of_dual_encoders() -> None:
    assert (KD.contrastive, EMBEDDING.contrastive) == (similarity_kd, embedding_kd)


def test_kd_averages_both_directions() -> None:
    teacher = build("dual").eval()
    batch = batch_with(0, 1, 2)
    similarity = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0], [1.0, 1.0, 0.0]])
    soft = teacher(batch).scores["similarity"].detach()
    losses = similarity_kd(teacher, alpha=0.75, temperature=2.0)(FixedOutput(similarity), batch)
    kd = (kd_loss(similarity, soft, 2.0) + kd_loss(similarity.T, soft.T, 2.0)) / 2
    torch.testing.assert_close(losses.parts["kd"], kd)
    torch.testing.assert_close(losses.total, 0.25 * contrastive_loss(similarity, batch["labels"]) + 0.75 * kd)


@pytest.mark.parametrize("name", REGION_ENCODERS)
def test_a_cross_encoder_teacher_scores_every_text_with_every_image(name: str) -> None:
    teacher = build(name).eval()
    batch = batch_with(0, 1, 2)
    similarity = teacher_similarity(teacher, batch | {"packing": torch.zeros(3, 1)})
    for text in range(3):
        for image in range(3):
            rows = {"input_ids": text, "text_mask": text, "regions": image, "boxes": image, "region_mask": image}
            pair = {key: batch[key][[row]] for key, row in rows.items()}
            mismatch, match = logits_of(teacher, pair)[0]
            torch.testing.assert_close(similarity[text, image], match - mismatch, atol=1e-5, rtol=1e-4)


def test_a_teacher_with_one_logit_a_pair_gives_that_logit() -> None:
    teacher = build("lxmert", Head("multiple_choice", 1)).eval()
    batch = batch_with(0, 1)
    expected = logits_of(teacher, batch)[:, 0]
    torch.testing.assert_close(teacher_similarity(teacher, batch).diagonal(), expected, atol=1e-5, rtol=1e-4)


def test_embedding_is_one_minus_the_cosine() -> None:
    teacher = build("dual").eval()
    batch = batch_with(0, 1)
    vectors = teacher(batch).pooled
    objective = embedding_kd(teacher, alpha=1.0, temperature=9.0)
    assert objective(FixedOutput(torch.zeros(2, 2), vectors), batch).total.item() == pytest.approx(0, abs=1e-6)
    # Both text vectors negated: 1 - (-1) = 2 for the texts, 0 for the images.
    negated = torch.cat([-vectors[:, :16], vectors[:, 16:]], -1)
    losses = objective(FixedOutput(torch.zeros(2, 2), negated), batch)
    assert losses.parts["embedding"].item() == pytest.approx(1)


def test_cached_vectors_replace_the_teachers_forward_pass() -> None:
    teacher = build("dual").eval()
    batch = batch_with(0, 1)
    cached = batch | {"teacher_logits": teacher(batch).pooled.detach()}
    with torch.no_grad():
        teacher.text_projection.weight.zero_()
    expected = teacher_similarity(build("dual"), batch)
    torch.testing.assert_close(teacher_similarity(teacher, cached), expected)


def test_vectors_of_two_widths_are_refused() -> None:
    objective = embedding_kd(build("dual", PAIR), alpha=1.0, temperature=1.0)
    with pytest.raises(ConfigError, match="student and teacher are 8 and 16 wide"):
        objective(FixedOutput(torch.zeros(2, 2), torch.zeros(2, 16)), batch_with(0, 1))
