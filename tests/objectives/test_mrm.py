"""ViLBERT's losses of masked regions beside their arithmetic, and its negatives."""

from math import exp, log

import pytest
import torch
from torch import Tensor

from vlx.errors import TrainingError
from vlx.inputs.pretraining import without_negative_masks
from vlx.objectives.mrm import region_kl, region_mse, region_nce, sample_nce_negatives
from vlx.objectives.pretraining import PretrainingSettings, pretraining_losses

MRM_LOSSES = ("kl", "mse", "nce")


def test_kl_is_summed_over_classes_and_averaged_over_masked_regions() -> None:
    scores = torch.tensor([[[0.0, 0.0], [log(3.0), 0.0], [9.0, 9.0]]])
    targets = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]])
    # log 2 for the first; for the second, KL((1/2, 1/2) || (3/4, 1/4)) = (log(2/3) + log 2) / 2; the third is unmasked
    expected = (log(2) + (log(2 / 3) + log(2)) / 2) / 2
    assert region_kl(scores, targets, torch.tensor([[True, True, False]])).item() == pytest.approx(expected)


def test_mse_is_the_mean_over_masked_regions_and_dimensions() -> None:
    scores = torch.zeros(1, 2, 3)
    features = torch.tensor([[[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]])
    assert region_mse(scores, features, torch.tensor([[True, False]])).item() == pytest.approx(14 / 3)


def test_nce_compares_a_region_with_its_negatives_by_dot_product() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    scores = torch.ones(2, 2, 2) * torch.tensor([1.0, 0.5])
    masked = torch.tensor([[True, False], [False, False]])
    negatives = torch.tensor([2, 3, 1]).expand(2, 2, 3)
    # dot products with (1, 0.5): 1 of the region itself; 2, 0 and 0.5 of the negatives
    expected = -log(exp(1) / (exp(1) + exp(2) + exp(0) + exp(0.5)))
    assert region_nce(scores, features, masked, negatives).item() == pytest.approx(expected, rel=1e-5)


def test_nce_without_negatives_is_refused() -> None:
    regions = torch.zeros(1, 2, 3)
    with pytest.raises(RuntimeError, match="no nce_negatives"):
        region_nce(regions, regions, torch.ones(1, 2, dtype=torch.bool), None)


def test_negatives_are_real_regions_of_other_images_then_of_the_same_image() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False], [True, True, False, False]])
    negatives = sample_nce_negatives(mask, 20, torch.Generator().manual_seed(0))
    assert negatives.shape == (3, 4, 20)
    assert torch.equal(negatives, sample_nce_negatives(mask, 20, torch.Generator().manual_seed(0)))
    assert mask.flatten()[negatives].all()
    images = torch.arange(3)[:, None, None]
    regions = torch.arange(12).view(3, 4, 1)
    assert (negatives[..., :14] // 4 != images).all()
    assert (negatives[0, :, 14:] // 4 == 0).all() and (negatives[2, :, 14:] // 4 == 2).all()
    assert (negatives[mask] != regions[mask]).all()
    assert (negatives[1, 0] // 4 != 1).all()  # the only region of its image
    assert set(negatives[0, 0].tolist()) == {1, 2, 4, 8, 9}


def test_negatives_of_a_single_image_are_refused() -> None:
    with pytest.raises(TrainingError, match="batch_size of at least 2"):
        sample_nce_negatives(torch.ones(1, 4, dtype=torch.bool), 20, torch.Generator())


def batch(mrm_loss: str) -> dict[str, Tensor]:
    classes = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3)).softmax(-1)
    mask = torch.ones(2, 3, dtype=torch.bool)
    tensors = {
        "mlm_labels": torch.tensor([[-1, 3], [2, -1]]),
        "masked_regions": torch.tensor([[True, False, True], [True, True, False]]),
        "region_targets": classes,
        "itm_labels": torch.tensor([1, 0]),
    }
    if mrm_loss == "nce":
        tensors["nce_negatives"] = sample_nce_negatives(mask, 10, torch.Generator().manual_seed(1))
    return tensors


def scores() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = {"mlm": (2, 2, 5), "mrm": (2, 3, 4), "itm": (2, 2)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


def losses_of(scores: dict[str, Tensor], batch: dict[str, Tensor], mrm_loss: str) -> dict[str, Tensor]:
    """As of ViLBERT, whose ITM head has a match as class 0."""
    return pretraining_losses(scores, batch, PretrainingSettings(mrm_loss=mrm_loss, itm_positive_class=0))


@pytest.mark.parametrize("mrm_loss", MRM_LOSSES)
def test_a_batch_without_masks_has_a_loss_of_zero(mrm_loss: str) -> None:
    unmasked = batch(mrm_loss) | {"masked_regions": torch.zeros(2, 3, dtype=torch.bool)}
    unmasked["mlm_labels"] = torch.full((2, 2), -1)
    predictions = {name: tensor.requires_grad_() for name, tensor in scores().items()}
    losses = losses_of(predictions, unmasked, mrm_loss)
    assert losses["mlm"] == losses["mrm"] == 0 < losses["itm"]
    sum(losses.values()).backward()
    assert all(tensor.grad.isfinite().all() for tensor in predictions.values())


@pytest.mark.parametrize("mrm_loss", MRM_LOSSES)
def test_mask_positives_only_removes_the_masks_of_negative_captions(mrm_loss: str) -> None:
    full = batch(mrm_loss)
    losses = losses_of(scores(), without_negative_masks(full), mrm_loss)
    first_alone = full | {"mlm_labels": torch.tensor([[-1, 3], [-1, -1]])}
    first_alone["masked_regions"] = torch.tensor([[True, False, True], [False, False, False]])
    assert losses == losses_of(scores(), first_alone, mrm_loss)
    assert losses["mrm"] != losses_of(scores(), full, mrm_loss)["mrm"]


def test_class_0_of_vilberts_itm_head_is_the_caption_of_the_image() -> None:
    confident = scores() | {"itm": torch.tensor([[20.0, 0.0], [0.0, 20.0]])}
    assert losses_of(confident, batch("kl"), "kl")["itm"] < 1e-6
