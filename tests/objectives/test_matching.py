"""Contrastive loss and distillation of towers, with numbers worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from vlx.objectives.matching import contrastive_loss, teach_match

from tests.models.test_registered import SIZES, batch_of
from vlx import models
from vlx.errors import ConfigError
from vlx.models import Head
from vlx.objectives import contrastive, kd_loss, match_distillation
from vlx.objectives.supervised import logits_of

PAIR = Head("classify", 2)


class Said(nn.Module):
    """A model that always gives the same vectors and scores."""

    def __init__(self, match: Tensor, pooled: Tensor | None = None) -> None:
        super().__init__()
        self.found = SimpleNamespace(scores={"match": match}, pooled=pooled)

    def forward(self, batch: dict[str, Tensor]) -> SimpleNamespace:
        return self.found


def batch_with(*labels: int) -> dict[str, Tensor]:
    return batch_of(len(labels), 1) | {"labels": torch.tensor(labels)}


def test_contrastive_loss_of_two_pairs() -> None:
    # Each of the four softmaxes gives e^2 / (e^2 + e^0) to the right one.
    match = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert contrastive_loss(match, torch.tensor([5, 9])).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_two_texts_of_one_picture_share_the_target() -> None:
    # All scores equal: three candidates, whatever the target, log 3.
    assert contrastive_loss(torch.zeros(3, 3), torch.tensor([1, 1, 2])).item() == pytest.approx(math.log(3))
    # Rows 0 and 1: halves on the two that belong, -(0.5 * log p0 + 0.5 * log p1) = log 2; row 2: 0.
    match = torch.tensor([[0.0, 0.0, -1e4], [0.0, 0.0, -1e4], [-1e4, -1e4, 0.0]])
    assert contrastive_loss(match, torch.tensor([1, 1, 2])).item() == pytest.approx(2 / 3 * math.log(2))


def test_labels_alone() -> None:
    losses = contrastive()(Said(torch.zeros(2, 2)), batch_with(0, 1))
    assert losses.total.item() == losses.parts["task"].item() == pytest.approx(math.log(2))


def test_kd_is_of_both_ways() -> None:
    teacher = models.build("dual", PAIR, SIZES, seed=0).eval()
    batch, own = batch_with(0, 1, 2), torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0], [1.0, 1.0, 0.0]])
    soft = teacher(batch).scores["match"].detach()
    losses = match_distillation("kd", teacher, alpha=0.75, temperature=2.0)(Said(own), batch)
    kd = (kd_loss(own, soft, 2.0) + kd_loss(own.T, soft.T, 2.0)) / 2
    torch.testing.assert_close(losses.parts["kd"], kd)
    torch.testing.assert_close(losses.total, 0.25 * contrastive_loss(own, batch["labels"]) + 0.75 * kd)


@pytest.mark.parametrize("system", models.SYSTEMS)
def test_a_teacher_of_pairs_is_asked_of_every_text_with_every_picture(system: str) -> None:
    teacher, batch = models.build(system, PAIR, SIZES, seed=0).eval(), batch_with(0, 1, 2)
    found = teach_match(teacher, batch | {"layout": torch.zeros(3, 1)})
    for text in range(3):
        for picture in range(3):
            places = {"input_ids": text, "text_mask": text, "regions": picture, "boxes": picture}
            places["region_mask"] = picture
            apart, together = logits_of(teacher, {name: batch[name][[at]] for name, at in places.items()})[0]
            torch.testing.assert_close(found[text, picture], together - apart, atol=1e-5, rtol=1e-4)


def test_embedding_is_one_minus_the_cosine() -> None:
    teacher, batch = models.build("dual", PAIR, SIZES, seed=0).eval(), batch_with(0, 1)
    objective, same = match_distillation("embedding", teacher, alpha=1.0, temperature=9.0), teacher(batch).pooled
    assert objective(Said(torch.zeros(2, 2), same), batch).total.item() == pytest.approx(0, abs=1e-6)
    # Both texts turned round: 1 - (-1) = 2 of the texts, 0 of the pictures.
    turned = torch.cat([-same[:, :16], same[:, 16:]], -1)
    losses = objective(Said(torch.zeros(2, 2), turned), batch)
    assert losses.parts["embedding"].item() == pytest.approx(1)


def test_kept_vectors_stand_for_the_teacher() -> None:
    teacher, batch = models.build("dual", PAIR, SIZES, seed=0).eval(), batch_with(0, 1)
    kept = batch | {"taught": teacher(batch).pooled.detach()}
    with torch.no_grad():
        teacher.text_projection.weight.zero_()
    asked = teach_match(models.build("dual", PAIR, SIZES, seed=0), batch)
    torch.testing.assert_close(teach_match(teacher, kept), asked)


def test_vectors_of_two_widths_are_refused() -> None:
    teacher = models.build("dual", PAIR, SIZES, seed=0)
    objective = match_distillation("embedding", teacher, alpha=1.0, temperature=1.0)
    with pytest.raises(ConfigError, match="student and teacher are 8 and 16 wide"):
        objective(Said(torch.zeros(2, 2), torch.zeros(2, 16)), batch_with(0, 1))
