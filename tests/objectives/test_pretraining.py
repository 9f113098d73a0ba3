"""Hand-computed losses of pre-training; nothing to learn from is 0 and never NaN."""

from math import log

import pytest
import torch
from torch import Tensor

from vlx.errors import ConfigError
from vlx.objectives.pretraining import (
    lxmert_losses,
    matched_loss,
    mlm_loss,
    qa_loss,
    region_class_loss,
    region_feature_loss,
    region_weights,
)

EVEN, SURE = [0.0, 0.0], [log(3.0), 0.0]  # probabilities 1/2 1/2 and 3/4 1/4


def batch(**changes: Tensor) -> dict[str, Tensor]:
    """Two examples of two regions each, the last of them padding."""
    own = {
        "word_labels": torch.tensor([[-1, 0], [-1, -1]]),
        "matched_labels": torch.tensor([1, 0]),
        "answer_labels": torch.tensor([0, -1]),
        "object_labels": torch.tensor([[1, -1], [0, 0]]),
        "object_confidences": torch.tensor([[0.5, 1.0], [0.25, 9.0]]),
        "attribute_labels": torch.tensor([[0, 0], [1, 0]]),
        "attribute_confidences": torch.tensor([[0.5, 1.0], [0.25, 9.0]]),
        "region_targets": torch.tensor([[[0.5, 3.0], [1.0, 1.0]], [[2.0, 0.0], [9.0, 9.0]]]),
        "masked_regions": torch.tensor([[True, False], [True, True]]),
        "region_mask": torch.tensor([[True, True], [True, False]]),
    }
    return own | changes


def scores() -> dict[str, Tensor]:
    regions = torch.tensor([[SURE, EVEN], [EVEN, SURE]])
    return {
        "words": torch.tensor([[EVEN, SURE], [SURE, SURE]]),
        "matched": torch.tensor([EVEN, SURE]),
        "answers": torch.tensor([SURE, EVEN]),
        "objects": regions,
        "attributes": regions,
        "features": torch.zeros(2, 2, 2),
    }


def test_six_losses_are_those_counted_by_hand() -> None:
    losses = {name: float(loss) for name, loss in lxmert_losses(scores(), batch()).items()}
    assert losses == pytest.approx(
        {
            "words": log(4 / 3),  # one labelled position
            "matched": (log(2) + log(4 / 3)) / 2,
            "answers": log(4 / 3),  # one labelled example
            # three regions there are: 1/4 at 0.5, none (but it counts), 1/2 at 0.25
            "objects": (0.5 * log(4) + 0 + 0.25 * log(2)) / 3 / 0.15,
            "attributes": (0.5 * log(4 / 3) + 1.0 * log(2) + 0.25 * log(2)) / 3 / 0.15,
            # smooth L1: 0.5 * 0.5**2 and 3 - 0.5, mean 1.3125; an unmasked region; 2 - 0.5 and 0, mean 0.75
            "features": (1.3125 + 0 + 0.75) / 3 / 0.15,
        }
    )


def test_a_loss_for_each_head_that_ran_and_no_other() -> None:
    some = {name: scores()[name] for name in ("words", "answers", "features")}
    needed = ("word_labels", "answer_labels", "region_targets", "masked_regions", "region_mask")
    given = {name: batch()[name] for name in needed}
    assert lxmert_losses(some, given).keys() == some.keys()


def test_padded_regions_change_no_loss() -> None:
    fill = torch.nn.functional.pad
    own, told = batch(), scores()
    wide = {name: fill(tensor, (0, 0, 0, 3), value=5.0) for name, tensor in told.items() if tensor.shape[1:] == (2, 2)}
    wide |= {name: told[name] for name in told.keys() - wide.keys()} | {"words": told["words"]}
    for name in ("object_labels", "object_confidences", "attribute_labels", "attribute_confidences", "region_mask"):
        own[name] = fill(own[name], (0, 3))
    own["masked_regions"] = fill(own["masked_regions"], (0, 3), value=True)
    own["region_targets"] = fill(own["region_targets"], (0, 0, 0, 3), value=7.0)
    for name, loss in lxmert_losses(wide, own).items():
        torch.testing.assert_close(loss, lxmert_losses(told, batch())[name])


@pytest.mark.parametrize(
    ("kind", "weights"), [("confidence", [0.5, 1.0]), ("masked", [1.0, 0.0]), ("both", [0.5, 0.0])]
)
def test_classes_of_regions_count_by_confidence_or_by_mask(kind: str, weights: list[float]) -> None:
    own = batch()
    found = region_weights(kind, own["object_confidences"], own["masked_regions"])
    assert found[0].tolist() == weights
    losses = lxmert_losses(scores(), own, visual_loss_mask=kind)
    both = region_class_loss(scores()["objects"], own["object_labels"], found, own["region_mask"])
    torch.testing.assert_close(losses["objects"], both / 0.15)


def test_an_unknown_way_to_weigh_regions_is_refused() -> None:
    with pytest.raises(ConfigError, match="visual_loss_mask=all: expected one of confidence, masked, both"):
        lxmert_losses(scores(), batch(), visual_loss_mask="all")


def test_nothing_to_learn_from_is_zero_with_finite_gradients() -> None:
    told = {name: tensor.requires_grad_() for name, tensor in scores().items()}
    labels = ("word_labels", "matched_labels", "answer_labels", "object_labels", "attribute_labels")
    none = {name: torch.full_like(batch()[name], -1) for name in labels}
    none |= {name: torch.zeros(2, 2, dtype=torch.bool) for name in ("masked_regions", "region_mask")}
    losses = lxmert_losses(told, batch(**none))
    assert losses.keys() == told.keys() and not any(losses.values())
    torch.stack([*losses.values()]).sum().backward()
    assert all(not tensor.grad.any() for tensor in told.values())


@pytest.mark.parametrize("loss", [matched_loss, qa_loss, mlm_loss])
def test_labels_of_minus_one_are_left_out_of_the_mean(loss: object) -> None:
    logits = torch.tensor([[SURE, EVEN, EVEN]]) if loss is mlm_loss else torch.tensor([SURE, EVEN, EVEN])
    labels = torch.tensor([0, -1, 1]).view(logits.shape[:-1])
    assert float(loss(logits, labels)) == pytest.approx((log(4 / 3) + log(2)) / 2)


def test_features_far_off_pull_no_harder_than_those_one_off() -> None:
    guess = torch.tensor([[[1.0], [50.0]]], requires_grad=True)
    ones = torch.ones(1, 2)
    region_feature_loss(guess, torch.zeros(1, 2, 1), ones, ones.bool()).backward()
    assert guess.grad.flatten().tolist() == [0.5, 0.5]
