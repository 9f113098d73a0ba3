"""The student's scores beside the teacher's."""

from pathlib import Path

import numpy as np

from tests.evaluation.toy import NLVR2, statements
from tests.training.toy import config
from vlx.evaluation.compare import distillation_validator, validator
from vlx.evaluation.predict import predict
from vlx.recipes.build import new_task_model


def test_a_fixed_teacher_is_evaluated_once_a_moving_one_each_time(folder: Path) -> None:
    model, dataset = statements(folder)
    teacher = new_task_model(config(seed=5), NLVR2, dataset.corpus).model
    student_scores = validator(dataset)(model)
    teacher_scores = validator(dataset)(teacher)
    student_labels, teacher_labels = (predict(each, dataset).argmax(1) for each in (model, teacher))
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    fixed = distillation_validator(dataset, teacher, teacher_moves=False)
    scores = fixed(model)
    assert fixed(model) == scores and len(calls) == 1
    assert scores | student_scores == scores
    assert scores["teacher_accuracy"] == teacher_scores["accuracy"]
    assert scores["agreement"] == np.mean(student_labels == teacher_labels)
    assert fixed(teacher)["agreement"] == 1.0
    calls.clear()
    moving = distillation_validator(dataset, teacher, teacher_moves=True)
    moving(model)
    moving(model)
    assert len(calls) == 2
