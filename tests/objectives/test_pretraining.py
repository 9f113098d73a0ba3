"""The weighted sum of an architecture's losses, their accuracies, and the MLM head at masked positions."""

from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tests.models.helpers import build_pretraining
from vlx.models.heads import PretrainingSizes
from vlx.models.spec import ModelSpec, all_specs, load_spec
from vlx.objectives.pretraining import PretrainingSettings, mlm_loss, pretraining_objective
from vlx.objectives.supervised import Objective

SPECS = [spec for spec in all_specs() if spec.pretraining]
SIZES = PretrainingSizes(qa=4, mrc_objects=3, mrc_attributes=2, mrfr=6, mrm=4)


def batch() -> dict[str, Tensor]:
    """Three texts of up to five tokens with three regions each, the last of which is padding for one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[-1, 7, -1, 9, -1], [-1, -1, -1, -1, -1], [-1, 3, 4, -1, -1]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    return {
        "input_ids": torch.randint(5, 20, (3, 5), generator=generator),
        "text_mask": torch.ones(3, 5, dtype=torch.bool),
        "regions": torch.rand(3, 3, 6, generator=generator),
        "pixels": torch.rand(3, 3, 32, 64, generator=torch.Generator().manual_seed(2)),
        "boxes": torch.rand(3, 3, 4, generator=generator).sort(-1).values[..., [0, 1, 2, 3]],
        "region_mask": mask,
        "visible_region_mask": mask,
        "mlm_labels": labels,
        "masked_positions": (labels >= 0).flatten().nonzero().flatten(),
        "itm_labels": torch.tensor([1, 0, 1]),
        "qa_labels": torch.tensor([2, -1, -1]),
        "mrc_objects_labels": torch.tensor([[0, 1, 2], [2, 1, -1], [0, 0, 0]]),
        "mrc_objects_confidences": torch.rand(3, 3, generator=generator),
        "mrc_attributes_labels": torch.tensor([[0, 1, 0], [1, 1, -1], [0, 0, 0]]),
        "mrc_attributes_confidences": torch.rand(3, 3, generator=generator),
        "masked_regions": torch.tensor([[True, False, False], [False, True, True], [False, False, False]]),
        "region_targets": torch.rand(3, 3, 6, generator=generator),
    }


def batch_for(name: str) -> dict[str, Tensor]:
    classes = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(1)).softmax(-1)
    return batch() | ({"region_targets": classes} if name == "vilbert" else {})


def objective_of(name: str, objectives: tuple[str, ...], *, mrm_loss: str = "kl", **loss_weights: float) -> Objective:
    settings = PretrainingSettings(mrm_loss=mrm_loss, itm_positive_class=load_spec(name).itm_positive_class)
    return pretraining_objective(objectives, loss_weights=loss_weights, settings=settings)


def model_of(spec: ModelSpec) -> nn.Module:
    return build_pretraining(spec.name, SIZES, seed=1, layers=2, cross_layers=1, dropout=0.0, attention_dropout=0.0)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_mlm_head_at_masked_positions_alone_gives_the_same_loss_and_gradients(spec: ModelSpec) -> None:
    model = model_of(spec).eval()
    masked = batch_for(spec.name)
    full = {name: tensor for name, tensor in masked.items() if name != "masked_positions"}
    labels = masked["mlm_labels"]
    results = []
    for inputs, targets, shape in ((masked, labels[labels >= 0], (4, 40)), (full, labels, (3, 5, 40))):
        model.zero_grad()
        scores = model(inputs, heads=("mlm",)).scores["mlm"]
        assert scores.shape == shape
        loss = mlm_loss(scores, targets)
        loss.backward()
        results.append((loss.detach(), model.bert.embeddings.word_embeddings.weight.grad.clone()))
    for at_masked, at_all in zip(*results, strict=True):
        torch.testing.assert_close(at_masked, at_all)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_total_is_the_weighted_sum_of_the_losses(spec: ModelSpec) -> None:
    model = model_of(spec).eval()
    names = spec.pretraining
    plain = objective_of(spec.name, names)(model, batch_for(spec.name))
    assert plain.total.item() == pytest.approx(sum(plain.parts[name].item() for name in names), rel=1e-5)
    weighted = objective_of(spec.name, names[:2], **{names[1]: 2.0})(model, batch_for(spec.name))
    assert weighted.parts.keys() == {part for name in names[:2] for part in (name, f"{name}_accuracy")}
    expected = plain.parts[names[0]] + 2 * plain.parts[names[1]]
    assert weighted.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert weighted.counts.keys() == weighted.parts.keys()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_batch_without_labels_has_losses_of_zero(spec: ModelSpec) -> None:
    unlabeled = batch_for(spec.name) | {"masked_positions": torch.zeros(0, dtype=torch.int64)}
    unlabeled |= {"mlm_labels": torch.full((3, 5), -1), "qa_labels": torch.full((3,), -1)}
    unlabeled |= {"masked_regions": torch.zeros(3, 3, dtype=torch.bool)}
    model = model_of(spec)
    losses = objective_of(spec.name, spec.pretraining)(model, unlabeled)
    losses.total.backward()
    assert losses.parts["mlm"] == losses.parts["mlm_accuracy"] == losses.counts["mlm"] == 0
    assert all(losses.parts.get(name, 0) == 0 for name in ("qa", "mrm", "mrfr"))
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


class FixedScores(nn.Module):
    """A model whose scores a test decides."""

    def __init__(self, **scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, batch: dict[str, Tensor], *, heads: list[str]) -> SimpleNamespace:
        return SimpleNamespace(scores={name: self.scores[name] for name in heads})


def test_accuracies_count_masked_tokens_and_regions_alone() -> None:
    mlm = torch.eye(20)[[7, 9, 3, 5]]  # the last of four is wrong
    regions = torch.eye(3)[torch.tensor([[0, 0, 0], [0, 1, 1], [1, 1, 1]])]  # masked: [0,0], [1,1] and a padding region
    answers = torch.eye(4)[torch.tensor([0, 0, 0])]
    model = FixedScores(mlm=mlm, mrc_objects=regions, qa=answers)
    losses = objective_of("lxmert", ("mlm", "mrc_objects", "qa"))(model, batch())
    assert losses.parts["mlm_accuracy"] == 0.75 and losses.counts["mlm_accuracy"] == 4
    assert losses.parts["mrc_objects_accuracy"] == 1.0 and losses.counts["mrc_objects_accuracy"] == 2
    assert losses.parts["qa_accuracy"] == 0.0 and losses.counts["qa"] == 1
    assert losses.counts["mrc_objects"] == 8  # all regions


def test_vilberts_class_0_is_a_match_and_masked_regions_have_classes_with_kl_alone() -> None:
    itm = torch.tensor([[log(3.0), 0.0], [0.0, log(3.0)], [0.0, log(3.0)]])  # yes, no, no; the last is wrong
    tensors = batch_for("vilbert")
    best = tensors["region_targets"].argmax(-1)
    model = FixedScores(itm=itm, mrm=torch.eye(4)[best], mlm=torch.eye(20)[[7, 9, 3, 4]])
    losses = objective_of("vilbert", ("mlm", "itm", "mrm"))(model, tensors)
    assert losses.parts["itm_accuracy"].item() == pytest.approx(2 / 3)
    assert losses.parts["itm"].item() == pytest.approx((2 * log(4 / 3) + log(4)) / 3, rel=1e-5)
    assert losses.parts["mrm_accuracy"] == 1.0
    features = objective_of("vilbert", ("mrm",), mrm_loss="mse")(model, tensors)
    assert features.parts.keys() == {"mrm"}
