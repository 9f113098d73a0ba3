"""Find better settings of a verb.  mlflow run . -e search -P verb=distill -P task=nlvr2 -P trials=20"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from vlx import search
from vlx.config import SearchConfig, launch
from vlx.recipes import distill, requirements

CHECKS: dict[str, Callable[[Any], None]] = {  # before the study is made
    "distill": requirements.check_distill,
    "finetune": requirements.check_finetune,
    "pretrain": requirements.check_pretrain,
}
PREPARATIONS: dict[str, Callable[[Any], Any]] = {"distill": distill.with_teacher}  # before the first trial


def main(cfg: SearchConfig) -> float:
    """Returns the best trial's score on the validation split."""
    CHECKS[cfg.verb](cfg.base())
    verb = import_module(f"{__package__}.{cfg.verb}" if __package__ else cfg.verb)
    prepare = PREPARATIONS.get(cfg.verb, lambda base: base)
    return search.run(cfg, verb.main, prepare=prepare, script=Path(__file__))


if __name__ == "__main__":
    launch(main, SearchConfig)
