"""Losses against numbers computed by hand, and the views of multimodal distillation."""

import math

import pytest
import torch
from vlx.training.batching import joint_layout

from tests.models.test_oscar import config, example, padded
from vlx.models.oscar import Oscar
from vlx.models.student import Projected, student_from
from vlx.objectives import cross_entropy, distillation, kd_loss, soft_target_bce
from vlx.objectives.distillation import views_apart
from vlx.objectives.supervised import logits_of

MASKS = ("text_mask", "region_mask")


def test_kd_of_a_hand_computed_pair() -> None:
    # teacher softmax(ln 3, 0) = (3/4, 1/4), student (1/2, 1/2): KL = .75 ln 1.5 + .25 ln .5
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    assert math.isclose(kd_loss(student, teacher, 1.0).item(), expected, rel_tol=1e-5)
    # at temperature 2 the teacher says softmax(ln(3)/2, 0), and the loss is multiplied by 4
    p = math.sqrt(3) / (math.sqrt(3) + 1)
    warm = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert math.isclose(kd_loss(student, teacher, 2.0).item(), warm, rel_tol=1e-5)


def test_bce_sums_over_answers_and_averages_over_examples() -> None:
    logits, targets = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.0, 0.0]])
    assert math.isclose(soft_target_bce(logits, {"targets": targets}).item(), 3 * math.log(2), rel_tol=1e-6)


def models() -> tuple[Oscar, Oscar]:
    torch.manual_seed(1)
    teacher, student = (
        Oscar(config(num_choice=2, num_hidden_layers=2)),
        Oscar(config(num_choice=2, num_hidden_layers=1)),
    )
    for model in (teacher, student):
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return teacher, student.eval()


def test_alpha_mixes_task_and_teacher() -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    totals = {
        alpha: distillation("kd", teacher, cross_entropy, alpha=alpha, temperature=2.0)(student, batch)
        for alpha in (0.0, 0.25, 1.0)
    }
    parts = totals[0.25].parts
    assert torch.isclose(totals[0.0].total, parts["task"])
    assert torch.isclose(totals[1.0].total, parts["kd"])
    assert torch.isclose(totals[0.25].total, 0.75 * parts["task"] + 0.25 * parts["kd"])


def test_the_teacher_gets_no_gradient_and_no_dropout() -> None:
    teacher, student = models()
    teacher.train()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    distillation("mkd", teacher, cross_entropy, alpha=0.5, temperature=2.0)(student, batch).total.backward()
    assert not teacher.training
    assert all(weight.grad is None for weight in teacher.parameters())
    assert any(weight.grad is not None for weight in student.parameters())


@pytest.mark.parametrize("lengths", [(6, 6), (6, 3), (2, 1)])
def test_the_views_give_the_logits_of_the_masked_batch_with_any_padding(lengths: tuple[int, int]) -> None:
    teacher, _ = models()
    teacher.eval()
    one, other = (padded(example(seed, tokens, (4, 2)), 9, 5) for seed, tokens in zip((2, 3), lengths, strict=True))
    batch = {name: torch.cat([one[name], other[name]]) for name in one}
    expected = masked_logits(teacher, batch)
    found = logits_of(teacher, views_apart(batch))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - logits_of(teacher, batch).repeat(2, 1)).abs().min() > 1e-3  # a view is not the whole
    packed = batch | {"layout": joint_layout(*(batch[name].sum(-1).flatten() for name in MASKS), 9)}
    torch.testing.assert_close(logits_of(teacher, views_apart(packed)), expected, atol=1e-5, rtol=0)


def test_the_views_have_the_gradients_of_the_masked_batch() -> None:
    _, student = models()
    batch, gradients = padded(example(2, 6, (4, 2)), 8, 5), []
    for logits in (logits_of(student, views_apart(batch)), masked_logits(student, batch)):
        loss = (logits * torch.arange(1.0, 1 + logits.numel()).view_as(logits)).sum()
        gradients.append(torch.autograd.grad(loss, list(student.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def masked_logits(model: Oscar, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of the whole batch twice, first with all regions masked, then with all text."""
    return torch.cat([logits_of(model, batch | {name: torch.zeros_like(batch[name])}) for name in reversed(MASKS)])


def test_mkd_weighs_its_views_as_the_original() -> None:
    teacher, student = models()
    batch = example(3, 6, (4, 2)) | {"labels": torch.tensor([0])}
    losses = distillation("mkd", teacher, cross_entropy, alpha=1.0, temperature=5.0)(student, batch)
    parts = losses.parts
    expected = 0.5 * parts["kd_full"] + 0.25 * parts["kd_text"] + 0.25 * parts["kd_image"]
    assert torch.isclose(losses.total, expected)


@pytest.mark.parametrize(("method", "beta"), [("pkd", 3.0), ("tinybert", 2.0)])
def test_layers_that_agree_cost_nothing_and_beta_weighs_those_that_do_not(method: str, beta: float) -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    objective = distillation(method, teacher, cross_entropy, alpha=0.25, temperature=2.0, beta=beta)
    losses = objective(student, batch)
    soft, layers = ("kd", ["patience"]) if method == "pkd" else ("soft_ce", ["attention", "hidden"])
    compared = sum(losses.parts[name] for name in layers)
    assert torch.isclose(losses.total, 0.75 * losses.parts["task"] + 0.25 * losses.parts[soft] + beta * compared)
    same = distillation(method, student, cross_entropy, alpha=0.25, temperature=2.0, beta=beta)(student, batch).parts
    assert compared > 1e-3 and all(same[name].abs() < 1e-6 for name in layers)


def test_beta_is_the_published_one_by_default() -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    for method, beta in (("pkd", 500.0), ("tinybert", 0.01)):
        given, default = (
            distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0, beta=value)(student, batch).total
            for value in (beta, 0.0)
        )
        assert torch.equal(given, default)


@pytest.mark.parametrize("method", ["pkd", "tinybert"])
def test_a_narrow_student_is_compared_through_a_map_that_learns(method: str) -> None:
    teacher, _ = models()
    narrow = student_from(teacher, layers=1, init="random", seed=0, hidden_size=teacher.config.hidden_size // 2)
    learner = Projected(narrow, teacher.config.hidden_size, seed=0)
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)(learner, batch).total.backward()
    assert learner.projection.weight.grad.abs().max() > 0
    assert narrow.bert.img_embedding.weight.grad.abs().max() > 0
    assert torch.equal(learner(batch).logits, narrow(batch).logits)
    assert not any("projection" in name for name in narrow.state_dict())


@pytest.mark.parametrize("method", ["pkd", "tinybert"])
def test_depths_that_do_not_divide_are_compared(method: str) -> None:
    student, teacher = (Oscar(config(num_choice=2, num_hidden_layers=layers)) for layers in (2, 3))
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    losses = distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)(student, batch)
    assert torch.isfinite(losses.total)


@pytest.mark.parametrize("method", ["kd", "mkd", "pkd", "tinybert"])
def test_an_example_whose_label_is_withheld_has_no_part_in_the_task_loss(method: str) -> None:
    teacher, student = models()
    batch = two_examples() | {"labels": torch.tensor([1, 0])}
    objective = distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)
    seen = objective(student, batch | {"labelled": torch.tensor([False, True])})
    turned = batch | {"labels": torch.tensor([0, 0]), "labelled": torch.tensor([False, True])}
    assert torch.equal(objective(student, turned).total, seen.total)
    both, alone = (
        objective(student, batch).parts,
        cross_entropy(student(batch).logits[1:], {"labels": torch.tensor([0])}),
    )
    torch.testing.assert_close(seen.parts["task"], alone.detach())
    assert all(torch.equal(seen.parts[name], both[name]) for name in both if name != "task")
    none = objective(student, batch | {"labelled": torch.tensor([False, False])})
    assert none.parts["task"] == 0 and none.total.requires_grad


def test_soft_targets_of_zero_are_learnt_only_where_the_label_is_seen() -> None:
    teacher, student = models()
    batch = two_examples() | {"targets": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}
    objective = distillation("kd", teacher, soft_target_bce, alpha=0.0, temperature=2.0)
    first = objective(student, batch | {"labelled": torch.tensor([True, False])}).total
    expected = soft_target_bce(student(batch).logits[:1], {"targets": batch["targets"][:1]})
    torch.testing.assert_close(first, expected)


def two_examples() -> dict[str, torch.Tensor]:
    one, other = example(1, 5, (3, 2)), example(2, 5, (3, 2))
    return {name: torch.cat([one[name], other[name]]) for name in one}
