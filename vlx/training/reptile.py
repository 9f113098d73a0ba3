"""MKD + Reptile: before each student step the teacher moves towards a student that took one step (specs: Oscar c.5)."""

import copy
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlx.models.student import layer_map, renamed
from vlx.objectives import Objective
from vlx.training.optim import Optim, Schedule, set_lr


class Reptile:
    """A loop hook that owns the teacher's optimizer. The objective holds the same teacher, so it sees every move."""

    def __init__(
        self, teacher: PreTrainedModel, student: PreTrainedModel, objective: Objective, *, strategy: str,
        meta_lr: float, inner_lr: float, optim: Optim, schedule: Schedule, max_grad_norm: float,
    ) -> None:  # fmt: skip
        self.teacher, self.objective, self.max_grad_norm = teacher, objective, max_grad_norm
        self.meta_lr, self.inner_lr, self.optim, self.schedule = meta_lr, inner_lr, optim, schedule
        self.optimizer = optim.build(teacher, meta_lr)
        self.targets = self.map_parameters(student, strategy)

    def map_parameters(self, student: PreTrainedModel, strategy: str) -> dict[str, list[nn.Parameter]]:
        """Student parameter name -> the teacher parameters it moves."""
        layers = layer_map(strategy, student.config.num_hidden_layers, self.teacher.config.num_hidden_layers)
        weights = dict(self.teacher.named_parameters())
        return {name: [weights[other] for other in renamed(name, layers)] for name, _ in student.named_parameters()}

    def before_step(
        self, student: nn.Module, batches: Sequence[dict[str, Tensor]], step: int, accelerator: Accelerator
    ) -> dict[str, float]:
        """Move the teacher once. Returns the norm of the meta gradient before clipping."""
        fast = self.adapted(student, batches, accelerator)
        for weight in self.teacher.parameters():
            weight.grad = None
        for name, adapted in fast.named_parameters():
            for weight in self.targets[name]:
                weight.grad = weight.detach() - adapted.detach()
        norm = nn.utils.clip_grad_norm_(self.teacher.parameters(), self.max_grad_norm)
        set_lr(self.optimizer, self.meta_lr * self.schedule.factor(step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"meta_grad_norm": float(norm)}

    def adapted(self, student: nn.Module, batches: Sequence[dict[str, Tensor]], accelerator: Accelerator) -> nn.Module:
        """A copy of the student after one step with a fresh optimizer on these batches."""
        fast = copy.deepcopy(accelerator.unwrap_model(student)).train()
        inner = self.optim.build(fast, self.inner_lr)
        for batch in batches:
            with accelerator.autocast():
                loss = self.objective(fast, batch).total / len(batches)
            loss.backward()
        if accelerator.num_processes > 1:
            for weight in fast.parameters():
                weight.grad = accelerator.reduce(weight.grad, "mean") if weight.grad is not None else None
        nn.utils.clip_grad_norm_(fast.parameters(), self.max_grad_norm)
        with torch.no_grad():
            inner.step()
        return fast
