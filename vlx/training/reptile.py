"""MKD + Reptile: before each student step the teacher moves towards a student that took one step (specs: Oscar c.5)."""

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from vlx.models.student import has_dropout, layer_map, renamed
from vlx.objectives import Objective
from vlx.training.optim import Optim, Schedule, set_lr


class Replay(nn.Module):
    """Asks a model, and later gives the same outputs again in the same order, with their graphs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.outputs, self.again = model, deque[Any](), False

    def forward(self, batch: dict[str, Tensor], **options: bool) -> Any:
        if self.again:
            return self.outputs.popleft()
        self.outputs.append(self.model(batch, **options))
        return self.outputs[-1]


class Reptile:
    """A loop hook that owns the teacher's optimizer. The objective holds the same teacher, so it sees every move."""

    def __init__(
        self, teacher: PreTrainedModel, student: PreTrainedModel, objective: Objective, *, strategy: str,
        meta_lr: float, inner_lr: float, optim: Optim, schedule: Schedule, max_grad_norm: float,
    ) -> None:  # fmt: skip
        self.teacher, self.objective, self.max_grad_norm = teacher, objective, max_grad_norm
        self.meta_lr, self.inner_lr, self.optim, self.schedule = meta_lr, inner_lr, optim, schedule
        self.optimizer = optim.build(teacher.named_parameters(), meta_lr)
        self.fast: nn.Module | None = None
        self.targets = self.map_parameters(student, strategy)

    def map_parameters(self, student: PreTrainedModel, strategy: str) -> dict[str, list[nn.Parameter]]:
        """Student parameter name -> the teacher parameters it moves."""
        layers = layer_map(strategy, student.config.num_hidden_layers, self.teacher.config.num_hidden_layers)
        weights = dict(self.teacher.named_parameters())
        return {name: [weights[other] for other in renamed(name, layers)] for name, _ in student.named_parameters()}

    def before_step(
        self, student: nn.Module, batches: Sequence[dict[str, Tensor]], step: int, accelerator: Accelerator
    ) -> tuple[nn.Module, dict[str, float]]:
        """Move the teacher once. Returns whom the student's own step is to ask, the student or what it said here
        already, and the norm of the meta gradient before clipping."""
        own = accelerator.unwrap_model(student)
        fast, inner = self.renewed(own)
        once = len(batches) == 1 and accelerator.num_processes == 1 and not has_dropout(own)
        asked: nn.Module = Replay(student) if once else student
        if isinstance(asked, Replay):
            self.borrow_gradients(fast, asked, batches[0], accelerator)
        else:
            self.own_gradients(fast, batches, accelerator)
        nn.utils.clip_grad_norm_(fast.parameters(), self.max_grad_norm)
        inner.step()
        return asked, {"meta_grad_norm": self.move_teacher(fast, step)}

    def renewed(self, student: nn.Module) -> tuple[nn.Module, Optimizer]:
        """A copy of the student and an optimizer without history, in the buffers of the last step if there was one."""
        if self.fast is None:
            self.fast = copy.deepcopy(student)
            self.inner = self.optim.build(self.fast.named_parameters(), self.inner_lr)
            return self.fast, self.inner
        with torch.no_grad():
            for part in (nn.Module.parameters, nn.Module.buffers):
                for mine, theirs in zip(part(self.fast), part(student), strict=True):
                    mine.copy_(theirs)
        for state in self.inner.state.values():
            for name, value in state.items():
                state[name] = value.zero_() if isinstance(value, Tensor) else 0
        self.inner.zero_grad()
        return self.fast, self.inner

    def borrow_gradients(
        self, fast: nn.Module, replay: Replay, batch: dict[str, Tensor], accelerator: Accelerator
    ) -> None:
        """Without dropout the copy says what the student says: one pass serves both, and its graph the student's step,
        whose loss has the moved teacher's targets."""
        with accelerator.autocast():
            loss = self.objective(replay, batch).total
        weights = list(accelerator.unwrap_model(replay.model).parameters())
        gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        for weight, gradient in zip(fast.parameters(), gradients, strict=True):
            weight.grad = gradient
        replay.again = True

    def own_gradients(self, fast: nn.Module, batches: Sequence[dict[str, Tensor]], accelerator: Accelerator) -> None:
        fast.train()
        for batch in batches:
            with accelerator.autocast():
                loss = self.objective(fast, batch).total / len(batches)
            loss.backward()
        if accelerator.num_processes > 1:
            for weight in fast.parameters():
                weight.grad = accelerator.reduce(weight.grad, "mean") if weight.grad is not None else None

    def move_teacher(self, fast: nn.Module, step: int) -> float:
        """One step towards the adapted copy. Returns the norm of the meta gradient before clipping."""
        for weight in self.teacher.parameters():
            weight.grad = None
        for name, adapted in fast.named_parameters():
            for weight in self.targets[name]:
                weight.grad = weight.detach() - adapted.detach()
        norm = nn.utils.clip_grad_norm_(self.teacher.parameters(), self.max_grad_norm)
        set_lr(self.optimizer, self.meta_lr * self.schedule.factor(step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)
