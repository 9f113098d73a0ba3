"""ViLBERT's losses beside their arithmetic, its negatives, and what a kind of task scores."""

from math import exp, log

import pytest
import torch
from vlx.objectives.vilbert import (
    KINDS,
    draw_negatives,
    only_matched,
    pretraining_losses,
    region_kl,
    region_nce,
    region_regression,
)

from vlx.errors import TrainingError


def test_kl_is_summed_over_classes_and_averaged_over_masked_regions() -> None:
    scores = torch.tensor([[[0.0, 0.0], [log(3.0), 0.0], [9.0, 9.0]]])
    targets = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]])
    # log 2 for the first; for the second, KL((1/2, 1/2) || (3/4, 1/4)) = (log(2/3) + log 2) / 2; the third is not asked
    expected = (log(2) + (log(2 / 3) + log(2)) / 2) / 2
    assert region_kl(scores, targets, torch.tensor([[True, True, False]])).item() == pytest.approx(expected)


def test_regression_is_the_mean_over_masked_regions_and_dims() -> None:
    scores, features = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]]])
    assert region_regression(scores, features, torch.tensor([[True, False]])).item() == pytest.approx(14 / 3)


def test_nce_compares_a_region_with_its_negatives_by_dot_product() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    scores = torch.ones(2, 2, 2) * torch.tensor([1.0, 0.5])
    masked = torch.tensor([[True, False], [False, False]])
    negatives = torch.tensor([2, 3, 1]).expand(2, 2, 3)
    # dot products with (1, 0.5): itself 1; then 2, 0 and 0.5
    expected = -log(exp(1) / (exp(1) + exp(2) + exp(0) + exp(0.5)))
    assert region_nce(scores, features, masked, negatives).item() == pytest.approx(expected, rel=1e-5)


def test_negatives_are_real_regions_of_others_then_of_the_same_image() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False], [True, True, False, False]])
    drawn = draw_negatives(mask, 20, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 4, 20)
    assert torch.equal(drawn, draw_negatives(mask, 20, torch.Generator().manual_seed(0)))
    assert mask.flatten()[drawn].all()
    image, own = torch.arange(3)[:, None, None], torch.arange(12).view(3, 4, 1)
    assert (drawn[..., :14] // 4 != image).all()
    assert (drawn[0, :, 14:] // 4 == 0).all() and (drawn[2, :, 14:] // 4 == 2).all()
    assert (drawn[mask] != own[mask]).all()
    assert (drawn[1, 0] // 4 != 1).all()  # alone in its image
    assert set(drawn[0, 0].tolist()) == {1, 2, 4, 8, 9}


def test_negatives_of_a_single_image_are_refused() -> None:
    with pytest.raises(TrainingError, match="batch_size of at least 2"):
        draw_negatives(torch.ones(1, 4, dtype=torch.bool), 20, torch.Generator())


def batch(visual_target: int) -> dict[str, torch.Tensor]:
    classes = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3)).softmax(-1)
    mask = torch.ones(2, 3, dtype=torch.bool)
    own = {"negatives": draw_negatives(mask, 10, torch.Generator().manual_seed(1))} if visual_target == 2 else {}
    return own | {
        "word_labels": torch.tensor([[-1, 3], [2, -1]]),
        "masked_regions": torch.tensor([[True, False, True], [True, True, False]]),
        "region_targets": classes,
        "matched_labels": torch.tensor([1, 0]),
    }


def scores() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = {"words": (2, 2, 5), "region_targets": (2, 3, 4), "aligned": (2, 2)}
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


@pytest.mark.parametrize("visual_target", [0, 1, 2])
def test_nothing_masked_costs_nothing(visual_target: int) -> None:
    none = batch(visual_target) | {"masked_regions": torch.zeros(2, 3, dtype=torch.bool)}
    none |= {"word_labels": torch.full((2, 2), -1)}
    found = scores()
    for tensor in found.values():
        tensor.requires_grad_()
    losses = pretraining_losses(found, none, visual_target=visual_target)
    assert losses["words"] == losses["regions"] == 0 < losses["aligned"]
    sum(losses.values()).backward()
    assert all(tensor.grad.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("visual_target", [0, 1, 2])
def test_objective_1_asks_nothing_about_a_caption_of_another_image(visual_target: int) -> None:
    given = batch(visual_target)
    ours = pretraining_losses(scores(), only_matched(given), visual_target=visual_target)
    first = given | {"word_labels": torch.tensor([[-1, 3], [-1, -1]])}
    first |= {"masked_regions": torch.tensor([[True, False, True], [False, False, False]])}
    assert ours == pretraining_losses(scores(), first, visual_target=visual_target)
    assert ours["regions"] != pretraining_losses(scores(), given, visual_target=visual_target)["regions"]


def test_class_0_is_the_images_own_caption() -> None:
    sure = scores() | {"aligned": torch.tensor([[20.0, 0.0], [0.0, 20.0]])}
    assert pretraining_losses(sure, batch(0), visual_target=0)["aligned"] < 1e-6


YES = log(1 + exp(-1.0))  # binary cross-entropy of a yes at logit 1
NO = log(1 + exp(1.0))  # of a no


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
def test_each_kind_of_task_learns_and_scores_as_published(
    kind: str, logits: list, targets: dict[str, list], loss: float | None, score: list[float]
) -> None:
    scores, asked = torch.tensor(logits), {name: torch.tensor(value) for name, value in targets.items()}
    if loss is not None:
        assert KINDS[kind].loss(scores, asked).item() == pytest.approx(loss, rel=1e-5)
    assert KINDS[kind].score(scores, asked).tolist() == score
