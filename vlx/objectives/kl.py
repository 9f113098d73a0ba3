"""The loss between softened distributions."""

from torch import Tensor
from torch.nn import functional as F


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student) of the softened distributions, summed over A, mean over B (Hinton et al. 2015).

    student and teacher: logits [B,A].
    """
    log_student = F.log_softmax(student / temperature, -1)
    soft_teacher = F.softmax(teacher / temperature, -1)
    return F.kl_div(log_student, soft_teacher, reduction="batchmean") * temperature**2
