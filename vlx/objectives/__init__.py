"""Objectives: (model, batch) -> Losses. The loop never asks which one it runs."""

from vlx.objectives.contrastive import contrastive
from vlx.objectives.distillation import DistillationMethod, distillation
from vlx.objectives.kl import kd_loss
from vlx.objectives.pretraining import pretraining_objective
from vlx.objectives.supervised import Losses, Objective, cross_entropy, mean_bce, soft_target_bce, supervised

__all__ = [
    "DistillationMethod", "Losses", "Objective", "contrastive", "cross_entropy", "distillation", "kd_loss", "mean_bce",
    "pretraining_objective", "soft_target_bce", "supervised",
]  # fmt: skip
