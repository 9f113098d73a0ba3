"""Distillation losses beside their arithmetic, and the modality views of MKD."""

import math

import pytest
import torch

from tests.models.test_oscar import config, example, padded
from vlx.inputs.packing import joint_packing
from vlx.models.oscar import Oscar
from vlx.models.student import HiddenProjection, student_from
from vlx.objectives import DistillationMethod, cross_entropy, distillation, kd_loss, soft_target_bce
from vlx.objectives.distillation import KD, MKD, PKD, TINYBERT, modality_views
from vlx.objectives.embedding import EMBEDDING
from vlx.objectives.supervised import logits_of

MASKS = ("text_mask", "region_mask")
LAYER_METHODS = (PKD, TINYBERT)


def test_kd_of_a_hand_computed_pair() -> None:
    # teacher softmax(ln 3, 0) = (3/4, 1/4), student (1/2, 1/2): KL = .75 ln 1.5 + .25 ln .5
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student = torch.zeros(1, 2)
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    assert math.isclose(kd_loss(student, teacher, 1.0).item(), expected, rel_tol=1e-5)
    # at temperature 2 the teacher is softmax(ln(3)/2, 0), and the loss is multiplied by 4
    p = math.sqrt(3) / (math.sqrt(3) + 1)
    warm = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert math.isclose(kd_loss(student, teacher, 2.0).item(), warm, rel_tol=1e-5)


def test_bce_sums_over_answers_and_averages_over_examples() -> None:
    logits = torch.zeros(2, 3)
    targets = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.0, 0.0]])
    assert math.isclose(soft_target_bce(logits, {"targets": targets}).item(), 3 * math.log(2), rel_tol=1e-6)


def models() -> tuple[Oscar, Oscar]:
    torch.manual_seed(1)
    teacher, student = (Oscar(config(num_choice=2, num_hidden_layers=layers)) for layers in (2, 1))
    for model in (teacher, student):
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return teacher, student.eval()


def test_alpha_mixes_task_and_teacher() -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    totals = {
        alpha: distillation(KD, teacher, cross_entropy, alpha=alpha, temperature=2.0)(student, batch)
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
    distillation(MKD, teacher, cross_entropy, alpha=0.5, temperature=2.0)(student, batch).total.backward()
    assert not teacher.training
    assert all(weight.grad is None for weight in teacher.parameters())
    assert any(weight.grad is not None for weight in student.parameters())


@pytest.mark.parametrize("lengths", [(6, 6), (6, 3), (2, 1)])
def test_the_views_give_the_logits_of_the_masked_batch_with_any_padding(lengths: tuple[int, int]) -> None:
    teacher, _ = models()
    teacher.eval()
    rows = [padded(example(seed, tokens, (4, 2)), 9, 5) for seed, tokens in zip((2, 3), lengths, strict=True)]
    batch = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    expected = masked_logits(teacher, batch)
    logits = logits_of(teacher, modality_views(batch))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert (logits - logits_of(teacher, batch).repeat(2, 1)).abs().min() > 1e-3  # a view is not the full input
    packed = batch | {"packing": joint_packing(*(batch[name].sum(-1).flatten() for name in MASKS), 9)}
    torch.testing.assert_close(logits_of(teacher, modality_views(packed)), expected, atol=1e-5, rtol=0)


def test_the_views_have_the_gradients_of_the_masked_batch() -> None:
    _, student = models()
    batch = padded(example(2, 6, (4, 2)), 8, 5)
    gradients = []
    for logits in (logits_of(student, modality_views(batch)), masked_logits(student, batch)):
        loss = (logits * torch.arange(1.0, 1 + logits.numel()).view_as(logits)).sum()
        gradients.append(torch.autograd.grad(loss, list(student.parameters())))
    for views, masked in zip(*gradients, strict=True):
        torch.testing.assert_close(views, masked, atol=1e-5, rtol=1e-4)


def masked_logits(model: Oscar, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits with all regions masked, then with all text masked."""
    return torch.cat([logits_of(model, batch | {name: torch.zeros_like(batch[name])}) for name in reversed(MASKS)])


def test_mkd_weights_its_views_as_the_original() -> None:
    teacher, student = models()
    batch = example(3, 6, (4, 2)) | {"labels": torch.tensor([0])}
    losses = distillation(MKD, teacher, cross_entropy, alpha=1.0, temperature=5.0)(student, batch)
    parts = losses.parts
    expected = 0.5 * parts["kd_full"] + 0.25 * parts["kd_text"] + 0.25 * parts["kd_image"]
    assert torch.isclose(losses.total, expected)


@pytest.mark.parametrize(("method", "beta"), [(PKD, 3.0), (TINYBERT, 2.0)])
def test_equal_layers_have_no_loss_and_beta_weights_the_loss_of_others(method: DistillationMethod, beta: float) -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    objective = distillation(method, teacher, cross_entropy, alpha=0.25, temperature=2.0, beta=beta)
    losses = objective(student, batch)
    soft, layers = ("kd", ["pkd_hidden"]) if method is PKD else ("soft_ce", ["attention", "hidden"])
    compared = sum(losses.parts[name] for name in layers)
    assert torch.isclose(losses.total, 0.75 * losses.parts["task"] + 0.25 * losses.parts[soft] + beta * compared)
    same = distillation(method, student, cross_entropy, alpha=0.25, temperature=2.0, beta=beta)(student, batch).parts
    assert compared > 1e-3 and all(same[name].abs() < 1e-6 for name in layers)


def test_beta_is_the_published_one_by_default() -> None:
    teacher, student = models()
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    for method, beta in ((PKD, 500.0), (TINYBERT, 0.01)):
        published, default = (
            distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0, beta=value)(student, batch).total
            for value in (beta, 0.0)
        )
        assert torch.equal(published, default)


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_a_narrow_student_is_compared_through_a_projection_that_gets_gradients(method: DistillationMethod) -> None:
    teacher, _ = models()
    narrow = student_from(teacher, layers=1, init="random", seed=0, hidden_size=teacher.config.hidden_size // 2)
    projected = HiddenProjection(narrow, teacher.config.hidden_size, seed=0)
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)(projected, batch).total.backward()
    assert projected.projection.weight.grad.abs().max() > 0
    assert narrow.bert.img_embedding.weight.grad.abs().max() > 0
    assert torch.equal(projected(batch).logits, narrow(batch).logits)
    assert not any("projection" in name for name in narrow.state_dict())


@pytest.mark.parametrize("method", LAYER_METHODS)
def test_depths_that_do_not_divide_are_compared(method: DistillationMethod) -> None:
    student, teacher = (Oscar(config(num_choice=2, num_hidden_layers=layers)) for layers in (2, 3))
    batch = example(1, 5, (3, 2)) | {"labels": torch.tensor([1])}
    losses = distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)(student, batch)
    assert torch.isfinite(losses.total)


@pytest.mark.parametrize("method", [KD, MKD, PKD, TINYBERT])
def test_an_unlabeled_example_has_no_part_in_the_task_loss(method: DistillationMethod) -> None:
    teacher, student = models()
    batch = two_examples() | {"labels": torch.tensor([1, 0])}
    objective = distillation(method, teacher, cross_entropy, alpha=0.5, temperature=2.0)
    losses = objective(student, batch | {"labeled_mask": torch.tensor([False, True])})
    changed = batch | {"labels": torch.tensor([0, 0]), "labeled_mask": torch.tensor([False, True])}
    assert torch.equal(objective(student, changed).total, losses.total)
    expected = cross_entropy(student(batch).logits[1:], {"labels": torch.tensor([0])})
    torch.testing.assert_close(losses.parts["task"], expected.detach())
    labeled = objective(student, batch).parts
    assert all(torch.equal(losses.parts[name], labeled[name]) for name in labeled if name != "task")
    none = objective(student, batch | {"labeled_mask": torch.tensor([False, False])})
    assert none.parts["task"] == 0 and none.total.requires_grad


def test_soft_targets_of_zero_count_only_where_the_example_is_labeled() -> None:
    teacher, student = models()
    batch = two_examples() | {"targets": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}
    objective = distillation(KD, teacher, soft_target_bce, alpha=0.0, temperature=2.0)
    first = objective(student, batch | {"labeled_mask": torch.tensor([True, False])}).total
    expected = soft_target_bce(student(batch).logits[:1], {"targets": batch["targets"][:1]})
    torch.testing.assert_close(first, expected)


def two_examples() -> dict[str, torch.Tensor]:
    rows = [example(seed, 5, (3, 2)) for seed in (1, 2)]
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def test_a_method_of_dual_encoders_alone_has_no_objective_for_cross_encoders() -> None:
    teacher, _ = models()
    with pytest.raises(RuntimeError, match="embedding is not for cross-encoders"):
        distillation(EMBEDDING, teacher, cross_entropy, alpha=0.5, temperature=2.0)
