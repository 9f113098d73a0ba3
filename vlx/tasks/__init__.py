"""Tasks, by the names of `vlx.registry.TASKS`: a new task is one file here and one line there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlx import registry

if TYPE_CHECKING:
    from vlx.tasks.base import Task


def load(name: str, answers: Sequence[str] = (), *, loss: str = "", itm_negatives: str = "one") -> "Task":
    """Return the task of that name. Raises ConfigError, and CorpusError if its answers are missing.

    answers: the vocabulary by label, of a corpus or a model; loss, itm_negatives: see `Task.with_loss` and
    `Task.with_itm_negatives`.
    """
    task: Task = registry.load(registry.TASKS, name, kind="task")
    return task.with_answers(answers).with_itm_negatives(itm_negatives).with_loss(loss)
