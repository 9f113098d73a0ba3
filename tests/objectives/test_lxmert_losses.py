"""LXMERT's losses of pre-training beside their arithmetic; a batch without labels has a loss of 0, not NaN."""

from math import log

import pytest
import torch
from torch import Tensor

from vlx.errors import ConfigError
from vlx.objectives import cross_entropy
from vlx.objectives.mrm import region_class_loss, region_feature_loss, region_loss_weights
from vlx.objectives.pretraining import OBJECTIVES, PretrainingSettings, itm_loss, mlm_loss, pretraining_losses

EVEN = [0.0, 0.0]  # probabilities 1/2 1/2
SURE = [log(3.0), 0.0]  # 3/4 1/4
SETTINGS = PretrainingSettings()


def batch(**changes: Tensor) -> dict[str, Tensor]:
    """Two examples of two regions each, the last of them padding."""
    tensors = {
        "mlm_labels": torch.tensor([[-1, 0], [-1, -1]]),
        "itm_labels": torch.tensor([1, 0]),
        "qa_labels": torch.tensor([0, -1]),
        "mrc_objects_labels": torch.tensor([[1, -1], [0, 0]]),
        "mrc_objects_confidences": torch.tensor([[0.5, 1.0], [0.25, 9.0]]),
        "mrc_attributes_labels": torch.tensor([[0, 0], [1, 0]]),
        "mrc_attributes_confidences": torch.tensor([[0.5, 1.0], [0.25, 9.0]]),
        "region_targets": torch.tensor([[[0.5, 3.0], [1.0, 1.0]], [[2.0, 0.0], [9.0, 9.0]]]),
        "masked_regions": torch.tensor([[True, False], [True, True]]),
        "region_mask": torch.tensor([[True, True], [True, False]]),
    }
    return tensors | changes


def scores() -> dict[str, Tensor]:
    regions = torch.tensor([[SURE, EVEN], [EVEN, SURE]])
    return {
        "mlm": torch.tensor([[EVEN, SURE], [SURE, SURE]]),
        "itm": torch.tensor([EVEN, SURE]),
        "qa": torch.tensor([SURE, EVEN]),
        "mrc_objects": regions,
        "mrc_attributes": regions,
        "mrfr": torch.zeros(2, 2, 2),
    }


def test_six_losses_equal_those_computed_by_hand() -> None:
    losses = {name: float(loss) for name, loss in pretraining_losses(scores(), batch(), SETTINGS).items()}
    assert losses == pytest.approx(
        {
            "mlm": log(4 / 3),  # one labeled position
            "itm": (log(2) + log(4 / 3)) / 2,
            "qa": log(4 / 3),  # one labeled example
            # three regions: 1/4 at 0.5, no label (but it counts), 1/2 at 0.25
            "mrc_objects": (0.5 * log(4) + 0 + 0.25 * log(2)) / 3 / 0.15,
            "mrc_attributes": (0.5 * log(4 / 3) + 1.0 * log(2) + 0.25 * log(2)) / 3 / 0.15,
            # smooth L1: 0.5 * 0.5**2 and 3 - 0.5, mean 1.3125; an unmasked region; 2 - 0.5 and 0, mean 0.75
            "mrfr": (1.3125 + 0 + 0.75) / 3 / 0.15,
        }
    )


def test_there_is_a_loss_for_each_head_that_ran_and_no_other() -> None:
    predictions = {name: scores()[name] for name in ("mlm", "qa", "mrfr")}
    keys = ("mlm_labels", "qa_labels", "region_targets", "masked_regions", "region_mask")
    tensors = {name: batch()[name] for name in keys}
    assert pretraining_losses(predictions, tensors, SETTINGS).keys() == predictions.keys()


def test_padded_regions_change_no_loss() -> None:
    fill = torch.nn.functional.pad
    padded = batch()
    wide = scores()
    for name in ("mrc_objects", "mrc_attributes", "mrfr"):
        wide[name] = fill(wide[name], (0, 0, 0, 3), value=5.0)
    for name in (
        "mrc_objects_labels",
        "mrc_objects_confidences",
        "mrc_attributes_labels",
        "mrc_attributes_confidences",
        "region_mask",
    ):
        padded[name] = fill(padded[name], (0, 3))
    padded["masked_regions"] = fill(padded["masked_regions"], (0, 3), value=True)
    padded["region_targets"] = fill(padded["region_targets"], (0, 0, 0, 3), value=7.0)
    expected = pretraining_losses(scores(), batch(), SETTINGS)
    for name, loss in pretraining_losses(wide, padded, SETTINGS).items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize(
    ("kind", "weights"), [("confidence", [0.5, 1.0]), ("masked", [1.0, 0.0]), ("both", [0.5, 0.0])]
)
def test_region_classes_are_weighted_by_confidence_or_by_mask(kind: str, weights: list[float]) -> None:
    tensors = batch()
    table = region_loss_weights(kind, tensors["mrc_objects_confidences"], tensors["masked_regions"])
    assert table[0].tolist() == weights
    losses = pretraining_losses(scores(), tensors, PretrainingSettings(region_loss_weight=kind))
    mask = tensors["region_mask"]
    expected = region_class_loss(scores()["mrc_objects"], tensors["mrc_objects_labels"], table, mask) / 0.15
    torch.testing.assert_close(losses["mrc_objects"], expected)


def test_an_unknown_region_loss_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="region_loss_weight=all: expected one of confidence, masked, both"):
        pretraining_losses(scores(), batch(), PretrainingSettings(region_loss_weight="all"))


def test_a_batch_without_labels_has_losses_of_zero_with_finite_gradients() -> None:
    predictions = {name: tensor.requires_grad_() for name, tensor in scores().items()}
    labels = ("mlm_labels", "itm_labels", "qa_labels", "mrc_objects_labels", "mrc_attributes_labels")
    unlabeled = {name: torch.full_like(batch()[name], -1) for name in labels}
    unlabeled |= {name: torch.zeros(2, 2, dtype=torch.bool) for name in ("masked_regions", "region_mask")}
    losses = pretraining_losses(predictions, batch(**unlabeled), SETTINGS)
    assert losses.keys() == predictions.keys() and not any(losses.values())
    torch.stack([*losses.values()]).sum().backward()
    assert all(not tensor.grad.any() for tensor in predictions.values())


def test_labels_of_minus_one_are_left_out_of_the_mean() -> None:
    logits = torch.tensor([SURE, EVEN, EVEN])
    labels = torch.tensor([0, -1, 1])
    qa = OBJECTIVES["qa"].loss(logits, {"qa_labels": labels}, SETTINGS)
    losses = [itm_loss(logits, labels), qa, mlm_loss(logits[None], labels[None])]
    losses.append(cross_entropy(logits, {"labels": labels}))
    assert [float(loss) for loss in losses] == pytest.approx([(log(4 / 3) + log(2)) / 2] * 4)


def test_the_gradient_of_features_is_bounded() -> None:
    prediction = torch.tensor([[[1.0], [50.0]]], requires_grad=True)
    ones = torch.ones(1, 2)
    region_feature_loss(prediction, torch.zeros(1, 2, 1), ones, ones.bool()).backward()
    assert prediction.grad.flatten().tolist() == [0.5, 0.5]
