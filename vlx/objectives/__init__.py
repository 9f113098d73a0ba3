"""Objectives: (model, batch) -> Losses. The loop never asks which one it runs."""

from vlx.objectives.distillation import LAYER_METHODS, distillation, kd_loss
from vlx.objectives.matching import contrastive, match_distillation
from vlx.objectives.supervised import Losses, Objective, cross_entropy, soft_target_bce, supervised

__all__ = [
    "LAYER_METHODS", "Losses", "Objective", "contrastive", "cross_entropy", "distillation", "kd_loss",
    "match_distillation", "soft_target_bce", "supervised",
]  # fmt: skip
