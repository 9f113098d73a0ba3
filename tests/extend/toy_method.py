"""Mean squared error of the logits (Ba and Caruana 2014)."""

from torch import nn
from torch.nn import functional as F

from vlx.batch import Batch
from vlx.objectives.distillation import DistillationMethod, teacher_forward
from vlx.objectives.supervised import Losses, Objective, TaskLoss, logits_of


def logit_regression(
    teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float = 0.0
) -> Objective:
    """(1 - alpha) * task + alpha * MSE; temperature and beta are not used."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        logits = logits_of(student, batch)
        task = task_loss(logits, batch)
        mse = F.mse_loss(logits, teacher_forward(teacher, batch))
        return Losses((1 - alpha) * task + alpha * mse, {"task": task.detach(), "mse": mse.detach()})

    return objective


TOY = DistillationMethod(name="toy", source="Ba and Caruana 2014", objective=logit_regression, ensemble=True)
