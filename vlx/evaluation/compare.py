"""Scores compared: during training with the teacher's, at the end with the majority baseline."""

import numpy as np
from torch import nn

from vlx.evaluation.predict import predict
from vlx.inputs.dataset import TaskDataset
from vlx.training.loop import Validate


def validator(dataset: TaskDataset) -> Validate:
    """The task's scores on a split, for the loop to choose its best step."""
    return lambda model: dataset.task.score(dataset.examples, predict(model, dataset))


def distillation_validator(dataset: TaskDataset, teacher: nn.Module, *, teacher_moves: bool) -> Validate:
    """Also the teacher's score, and how often both predict the same. A moving teacher is evaluated each time."""
    task = dataset.task
    teacher_predictions: list[np.ndarray] = []

    def validate(model: nn.Module) -> dict[str, float]:
        predictions = predict(model, dataset)
        if teacher_moves or not teacher_predictions:
            teacher_predictions[:] = [predict(teacher, dataset)]
        teacher_score = task.score(dataset.examples, teacher_predictions[0])[task.metric]
        agreement = float((predictions.argmax(1) == teacher_predictions[0].argmax(1)).mean())
        scores = task.score(dataset.examples, predictions)
        return scores | {f"teacher_{task.metric}": teacher_score, "agreement": agreement}

    return validate


def is_at_majority_baseline(accuracy: float, baseline: float, examples: int) -> bool:
    """Whether a score is no more than two standard errors above the majority baseline."""
    return accuracy <= baseline + 2 * (baseline * (1 - baseline) / examples) ** 0.5
