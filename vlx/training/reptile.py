"""Reptile for distillation: before each student step the teacher moves towards a student that took one step ahead.

Oscar-ReptileDistil, run_vqa_with_mkd_and_reptile.py; the meta-learning is that of Nichol et al. 2018. The original
assigns the meta gradient to `p.gard`, so its teacher never moves; here it moves, as in ReptileDistil.
"""

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from vlx.batch import Batch
from vlx.models.student import has_dropout, layer_map, teacher_names
from vlx.objectives import Objective
from vlx.training.optim import Optim, Schedule, set_lr


class CachedForward(nn.Module):
    """Runs a model and stores its outputs; once `replaying`, returns them in the same order, with their graphs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.outputs = deque[Any]()
        self.replaying = False

    def forward(self, batch: Batch, **options: bool) -> Any:
        if self.replaying:
            return self.outputs.popleft()
        self.outputs.append(self.model(batch, **options))
        return self.outputs[-1]


class Reptile:
    """A hook of the training loop with the teacher's optimizer. The objective must hold the same teacher object.

    reptile_layers names the teacher layers that a student layer moves: first, last or skip (one layer), or mean (all
    teacher layers of the student layer's share). inner_lr is the learning rate of the step ahead, meta_lr the
    teacher's.
    """

    def __init__(
        self, teacher: PreTrainedModel, student: PreTrainedModel, objective: Objective, *, reptile_layers: str,
        meta_lr: float, inner_lr: float, optim: Optim, schedule: Schedule, max_grad_norm: float,
    ) -> None:  # fmt: skip
        self.teacher = teacher
        self.objective = objective
        self.meta_lr = meta_lr
        self.inner_lr = inner_lr
        self.optim = optim
        self.schedule = schedule
        self.max_grad_norm = max_grad_norm
        self.optimizer = optim.build(teacher.named_parameters(), meta_lr)
        self.adapted_student: nn.Module | None = None
        self.targets = self.map_parameters(student, reptile_layers)

    def map_parameters(self, student: PreTrainedModel, reptile_layers: str) -> dict[str, list[nn.Parameter]]:
        """Return, by student parameter name, the teacher parameters it moves."""
        layers = layer_map(reptile_layers, student.config.num_hidden_layers, self.teacher.config.num_hidden_layers)
        weights = dict(self.teacher.named_parameters())
        names = [name for name, _ in student.named_parameters()]
        return {name: [weights[target] for target in teacher_names(name, layers)] for name in names}

    def before_step(
        self, student: nn.Module, batches: Sequence[Batch], *, step: int, accelerator: Accelerator
    ) -> tuple[nn.Module, dict[str, float]]:
        """Move the teacher once.

        Returns the model for the student's own step, the student itself or its cached outputs, and the norm of the meta
        gradient before clipping.
        """
        unwrapped = accelerator.unwrap_model(student)
        adapted, inner_optimizer = self.copy_student(unwrapped)
        forward_model = student
        if self.can_share_forward(unwrapped, batches, accelerator=accelerator):
            forward_model = CachedForward(student)
            self.share_gradients(adapted, forward_model, batch=batches[0], accelerator=accelerator)
        else:
            self.compute_gradients(adapted, batches, accelerator=accelerator)
        nn.utils.clip_grad_norm_(adapted.parameters(), self.max_grad_norm)
        inner_optimizer.step()
        return forward_model, {"meta_grad_norm": self.move_teacher(adapted, step)}

    def can_share_forward(self, student: nn.Module, batches: Sequence[Batch], *, accelerator: Accelerator) -> bool:
        """Whether the copy's outputs equal the student's: one micro-batch, one process and no dropout."""
        return len(batches) == 1 and accelerator.num_processes == 1 and not has_dropout(student)

    def copy_student(self, student: nn.Module) -> tuple[nn.Module, Optimizer]:
        """Return a copy of the student and its optimizer without history, in the memory of the previous step's."""
        if self.adapted_student is None:
            self.adapted_student = copy.deepcopy(student)
            self.inner_optimizer = self.optim.build(self.adapted_student.named_parameters(), self.inner_lr)
            return self.adapted_student, self.inner_optimizer
        with torch.no_grad():
            for tensors in (nn.Module.parameters, nn.Module.buffers):
                for target, source in zip(tensors(self.adapted_student), tensors(student), strict=True):
                    target.copy_(source)
        for state in self.inner_optimizer.state.values():
            for name, value in state.items():
                state[name] = value.zero_() if isinstance(value, Tensor) else 0
        self.inner_optimizer.zero_grad()
        return self.adapted_student, self.inner_optimizer

    def share_gradients(
        self, adapted: nn.Module, cached: CachedForward, *, batch: Batch, accelerator: Accelerator
    ) -> None:
        """Give the copy the gradients of one forward pass of the student, whose graph stays for the student's own step:
        the loss of that step has the moved teacher's targets, but the same student outputs."""
        with accelerator.autocast():
            loss = self.objective(cached, batch).total
        weights = list(accelerator.unwrap_model(cached.model).parameters())
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        for weight, gradient in zip(adapted.parameters(), gradients, strict=True):
            weight.grad = gradient
        cached.replaying = True

    def compute_gradients(self, adapted: nn.Module, batches: Sequence[Batch], *, accelerator: Accelerator) -> None:
        """Give the copy the gradients of forward passes of its own, averaged over batches and processes."""
        adapted.train()
        for batch in batches:
            with accelerator.autocast():
                loss = self.objective(adapted, batch).total / len(batches)
            loss.backward()
        if accelerator.num_processes > 1:
            for weight in adapted.parameters():
                if weight.grad is not None:
                    weight.grad = accelerator.reduce(weight.grad, "mean")

    def move_teacher(self, adapted: nn.Module, step: int) -> float:
        """Take one step towards the adapted copy. Returns the norm of the meta gradient before clipping."""
        for weight in self.teacher.parameters():
            weight.grad = None
        for name, value in adapted.named_parameters():
            for weight in self.targets[name]:
                weight.grad = weight.detach() - value.detach()
        norm = nn.utils.clip_grad_norm_(self.teacher.parameters(), self.max_grad_norm)
        set_lr(self.optimizer, self.meta_lr * self.schedule.factor(step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)
