"""The registry of tasks: a new task is one file and one line here."""

from vlx.errors import ConfigError
from vlx.tasks.base import Encoded, Splits, Task
from vlx.tasks.statements import NLVR, NLVR2

TASKS: dict[str, Task] = {task.name: task for task in (NLVR2, NLVR)}


def load(name: str) -> Task:
    """The task of that name. Raises ConfigError."""
    if name not in TASKS:
        raise ConfigError(f"task={name}: expected one of {', '.join(TASKS)}.")
    return TASKS[name]


__all__ = ["TASKS", "Encoded", "Splits", "Task", "load"]
