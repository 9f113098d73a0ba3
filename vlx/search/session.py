"""What every function of a search works on."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import optuna

from vlx import workspace
from vlx.config import SearchConfig
from vlx.config.base import Config, keys_of
from vlx.errors import ConfigError
from vlx.search.space import Settings, Space, read_space
from vlx.search.study import Timing, open_study

Train = Callable[..., float]  # a verb's main: (config, tracking.Trial) -> validation score


@dataclass(frozen=True)
class Session:
    """One process's part in a study.

    base: the verb's options from which the search starts. folder: work_dir/studies/NAME, with two lock files: the
    leader's process holds `leader.lock`; the process that chooses settings holds `turn`.
    """

    config: SearchConfig
    base: Config
    space: Space
    study: optuna.Study
    folder: Path
    train: Train
    timing: Timing

    @property
    def leader(self) -> dict[str, str]:
        """The tags of the process that leads or led the study, and the uuid of its run; empty before the first."""
        return self.study.user_attrs.get("leader", {})

    @property
    def budget(self) -> int:
        """The number of trials that end the study; a grid may have fewer cells than `trials`."""
        return len(self.planned_settings()) if self.config.sampler == "grid" else self.config.trials

    def planned_settings(self) -> list[Settings]:
        """The settings that no sampler chooses: those of `base` first, then a shuffled grid with sampler=grid."""
        options = self.base.as_dict()
        start = self.space.settings(options, lambda name, _: options[name])
        grid = self.space.grid(options) if self.config.sampler == "grid" else []
        Random(self.config.seed).shuffle(grid)
        return [start, *(settings for settings in grid if settings != start)][: self.config.trials]


def open_session(config: SearchConfig, train: Train, *, timing: Timing) -> Session:
    """Open the study that the options name, or create it. Raises ConfigError."""
    base = config.base()
    space = read_space(config.space or config.verb, base, excluded=keys_of(shlex.split(config.options)))
    identity = workspace.options_hash(
        base.as_dict(), config.verb, space.text, str(config.seeds), config.second_objective
    )
    name = config.study or f"{config.verb}-{workspace.options_hash({}, identity, config.sampler, config.pruner)}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"study={name}: expected letters, digits, - _ . and nothing else.")
    folder = Path(config.work_dir) / "studies" / name
    with workspace.locked_folder(folder / "turn"):
        study = open_study(config, name, folder=folder, identity=identity, timing=timing)
    return Session(config, base, space, study, folder, train, timing)
