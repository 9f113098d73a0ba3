"""Hyper-parameter search: `vlx.search.run` leads or joins a study whose trials are runs of a verb's `main`.

session.py   the options, space, study and folder that every function here works on
runner.py    the life of a study, from the election of its leader to the promoted model
trial.py     one trial: it takes its turn, chooses settings, trains, reports
winner.py    what follows the last trial: the preset of the best settings, the promotion
study.py     Optuna's storage, samplers and pruners; trials of dead processes
results.py   the trials as rows
space.py     the options that a search varies; spaces/*.yaml are the built-in spaces

`run` is loaded when first used, so that a search space is read without Optuna.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlx.search.runner import run  # noqa: F401


def __getattr__(name: str) -> Any:
    if name == "run":
        return import_module("vlx.search.runner").run
    raise AttributeError(f"vlx.search has no {name}")
