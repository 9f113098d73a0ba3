"""Find better settings of a verb.  mlflow run . -e search -P verb=distill -P task=nlvr2 -P trials=20"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from vlx import search
from vlx.config import Config, SearchConfig, launch
from vlx.training import recipes

PREPARE: dict[str, Callable[[Any], Config]] = {"distill": recipes.with_teacher}  # before the first trial


def main(cfg: SearchConfig) -> float:
    """Returns the best trial's score on the validation split."""
    verb = import_module(f"{__package__}.{cfg.verb}" if __package__ else cfg.verb)
    return search.run(cfg, verb.main, prepare=PREPARE.get(cfg.verb, lambda base: base), script=Path(__file__))


if __name__ == "__main__":
    launch(main, SearchConfig)
