"""Any of a system's losses, weighed; their accuracies by hand; the word head where words are hidden alone."""

from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from vlx.objectives.stages import SYSTEMS, pretraining

from vlx import models
from vlx.models import Sizes, Targets
from vlx.objectives.pretraining import mlm_loss

SIZES = Sizes(20, 12, 6, 16, 2, 1, 1, 2, 16, 0.1, 0.0, 0.0, "linear", vision_layers=(1, 1, 1, 1), vision_width=2)
TARGETS = Targets(answers=4, objects=3, attributes=2, features=6, regions=4)


def batch() -> dict[str, Tensor]:
    """Three texts of up to five tokens with three regions each, the last of which is padding for one."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([[-1, 7, -1, 9, -1], [-1, -1, -1, -1, -1], [-1, 3, 4, -1, -1]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    return {
        "input_ids": torch.randint(5, 20, (3, 5), generator=draw),
        "text_mask": torch.ones(3, 5, dtype=torch.bool),
        "regions": torch.rand(3, 3, 6, generator=draw),
        "pixels": torch.rand(3, 3, 32, 64, generator=torch.Generator().manual_seed(2)),
        "boxes": torch.rand(3, 3, 4, generator=draw).sort(-1).values[..., [0, 1, 2, 3]],
        "region_mask": mask,
        "counted_mask": mask,
        "word_labels": labels,
        "word_places": (labels >= 0).flatten().nonzero().flatten(),
        "matched_labels": torch.tensor([1, 0, 1]),
        "answer_labels": torch.tensor([2, -1, -1]),
        "object_labels": torch.tensor([[0, 1, 2], [2, 1, -1], [0, 0, 0]]),
        "object_confidences": torch.rand(3, 3, generator=draw),
        "attribute_labels": torch.tensor([[0, 1, 0], [1, 1, -1], [0, 0, 0]]),
        "attribute_confidences": torch.rand(3, 3, generator=draw),
        "masked_regions": torch.tensor([[True, False, False], [False, True, True], [False, False, False]]),
        "region_targets": torch.rand(3, 3, 6, generator=draw),
    }


def batch_for(system: str) -> dict[str, Tensor]:
    classes = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(1)).softmax(-1)
    return batch() | ({"region_targets": classes} if system == "vilbert" else {})


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_word_head_at_hidden_places_gives_the_same_loss_and_gradients(system: str) -> None:
    model = models.for_pretraining(system, TARGETS, SIZES, seed=1).eval()
    given = batch_for(system)
    found = []
    for places in (True, False):
        model.zero_grad()
        seen = given if places else {name: tensor for name, tensor in given.items() if name != "word_places"}
        scores = model(seen, heads=("words",)).scores["words"]
        assert scores.shape == ((4, 20) if places else (3, 5, 20))
        loss = mlm_loss(scores, given["word_labels"][given["word_labels"] >= 0] if places else given["word_labels"])
        loss.backward()
        found.append((loss.detach(), model.bert.embeddings.word_embeddings.weight.grad.clone()))
    for one, all_of_them in zip(*found, strict=True):
        torch.testing.assert_close(one, all_of_them)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_total_is_the_weighted_sum_of_the_losses_asked_for(system: str) -> None:
    model, names = models.for_pretraining(system, TARGETS, SIZES, seed=1).eval(), tuple(SYSTEMS[system].heads)
    every = pretraining(system, names, weights={})(model, batch_for(system))
    assert every.total.item() == pytest.approx(sum(every.parts[name].item() for name in names), rel=1e-5)
    weighed = pretraining(system, names[:2], weights={names[1]: 2.0})(model, batch_for(system))
    assert weighed.parts.keys() == {part for name in names[:2] for part in (name, f"{name}_accuracy")}
    expected = every.parts[names[0]] + 2 * every.parts[names[1]]
    assert weighed.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert weighed.counts.keys() == weighed.parts.keys()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_batch_without_a_label_adds_nothing_and_no_nan(system: str) -> None:
    given = batch_for(system) | {"word_places": torch.zeros(0, dtype=torch.int64)}
    given |= {"word_labels": torch.full((3, 5), -1), "answer_labels": torch.full((3,), -1)}
    given |= {"masked_regions": torch.zeros(3, 3, dtype=torch.bool)}
    model = models.for_pretraining(system, TARGETS, SIZES, seed=1)
    losses = pretraining(system, tuple(SYSTEMS[system].heads), weights={})(model, given)
    losses.total.backward()
    assert losses.parts["words"] == losses.parts["words_accuracy"] == losses.counts["words"] == 0
    assert all(losses.parts.get(name, 0) == 0 for name in ("answers", "regions", "features"))
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


class Told(nn.Module):
    """A model that says what a test tells it."""

    def __init__(self, **scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, batch: dict[str, Tensor], *, heads: list[str]) -> SimpleNamespace:
        return SimpleNamespace(scores={name: self.scores[name] for name in heads})


def test_accuracies_are_of_what_was_hidden() -> None:
    words = torch.eye(20)[[7, 9, 3, 5]]  # the last of four is wrong
    regions = torch.eye(3)[torch.tensor([[0, 0, 0], [0, 1, 1], [1, 1, 1]])]  # hidden are [0,0], [1,1] and a padding
    answers = torch.eye(4)[torch.tensor([0, 0, 0])]
    told = Told(words=words, objects=regions, answers=answers)
    losses = pretraining("lxmert", ("words", "objects", "answers"), weights={})(told, batch())
    assert losses.parts["words_accuracy"] == 0.75 and losses.counts["words_accuracy"] == 4
    assert losses.parts["objects_accuracy"] == 1.0 and losses.counts["objects_accuracy"] == 2
    assert losses.parts["answers_accuracy"] == 0.0 and losses.counts["answers"] == 1
    assert losses.counts["objects"] == 8  # all regions there are


def test_vilberts_class_0_is_a_pair_and_regions_have_classes_for_target_0_alone() -> None:
    aligned = torch.tensor([[log(3.0), 0.0], [0.0, log(3.0)], [0.0, log(3.0)]])  # yes, no, no; the last is wrong
    given = batch_for("vilbert")
    best = given["region_targets"].argmax(-1)
    told = Told(aligned=aligned, region_targets=torch.eye(4)[best], words=torch.eye(20)[[7, 9, 3, 4]])
    losses = pretraining("vilbert", ("words", "matched", "regions"), weights={})(told, given)
    assert losses.parts["matched_accuracy"].item() == pytest.approx(2 / 3)
    assert losses.parts["matched"].item() == pytest.approx((2 * log(4 / 3) + log(4)) / 3, rel=1e-5)
    assert losses.parts["regions_accuracy"] == 1.0
    features = pretraining("vilbert", ("regions",), weights={}, visual_target=1)(told, given)
    assert features.parts.keys() == {"regions"}
