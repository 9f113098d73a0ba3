"""A study of Optuna: where its trials are stored, how settings are chosen and trials pruned, what follows a kill."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from vlx.config import SearchConfig
from vlx.config.base import one_line
from vlx.errors import ConfigError
from vlx.search.space import Dimension
from vlx.tracking.store import is_alive, process_tags


@dataclass(frozen=True)
class Timing:
    """Seconds that a search waits."""

    poll: float = 2.0  # between two questions whether trials of other processes have ended
    report: float = 120.0  # between two drawings of the figures
    heartbeat: int = 60  # between two signs of life that a trial writes to the storage
    grace: int = 180  # without a sign of life: the trial's process is dead
    sqlite_lock: float = 60.0  # for a process that writes


TIMING = Timing()
MAX_ATTEMPTS = 3  # of settings whose process was killed
STARTUP_TRIALS = 6  # random trials before TPE and GP use the scores
ASHA_MIN_RESOURCE = 2  # evaluations before the first comparison
ASHA_REDUCTION = 4  # one trial of so many goes on
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=True),
    "random": RandomSampler,
    "grid": RandomSampler,  # samples nothing: all cells of the grid are enqueued
}
PRUNERS: dict[str, Callable[[int], BasePruner]] = {  # from the number of seeds
    "asha": lambda _: SuccessiveHalvingPruner(ASHA_MIN_RESOURCE, ASHA_REDUCTION),
    "hyperband": lambda _: HyperbandPruner(reduction_factor=3),
    "median": lambda _: MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    # the smallest p-value that all seeds but the last can reach, and at least 0.1
    "wilcoxon": lambda seeds: WilcoxonPruner(p_threshold=max(0.1, 1.01 * 0.5 ** (seeds - 1))),
    "none": lambda _: NopPruner(),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log and its warnings of experimental features."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(
    config: SearchConfig, name: str, *, folder: Path, identity: str, timing: Timing = TIMING
) -> optuna.Study:
    """Open the study of that name, or create it.

    identity: a digest of the options that its trials share. Raises ConfigError if the study has another identity, or
    if the storage cannot be used.
    """
    if config.sampler == "cmaes" and find_spec("cmaes") is None:
        raise ConfigError("sampler=cmaes: needs the package cmaes; pip install cmaes, or choose another sampler.")
    try:
        with quiet():
            study = optuna.create_study(
                storage=open_storage(config.storage, folder, timing=timing),
                pruner=PRUNERS[pruner_name(config)](config.seeds),
                study_name=name,
                directions=directions(config),
                load_if_exists=True,
            )
            stored = study.user_attrs.get("identity", identity)
            study.set_user_attr("identity", stored)
    except Exception as error:  # each database driver raises its own kind
        place = config.storage.rpartition("@")[2] or folder  # without a password
        raise ConfigError(f"storage={place}: cannot be used ({one_line(str(error))[:200]}).") from error
    if stored != identity:
        raise ConfigError(f"study={name}: was made with other options or another space; choose another name.")
    return study


def pruner_name(config: SearchConfig) -> str:
    """The pruner that pruner=auto stands for."""
    if config.pruner != "auto":
        return config.pruner
    if config.second_objective:
        return "none"  # Optuna prunes with one objective only
    return "wilcoxon" if config.seeds > 1 else "asha"


def directions(config: SearchConfig) -> list[StudyDirection]:
    """The score is maximized, the second objective minimized."""
    second = [StudyDirection.MINIMIZE] if config.second_objective else []
    return [StudyDirection.MAXIMIZE, *second]


def open_storage(storage: str, folder: Path, *, timing: Timing = TIMING) -> BaseStorage:
    """storage: journal, the URL of a database, or empty for sqlite; files are in `folder`."""
    if storage == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.log")))
    url = storage or f"sqlite:///{folder.absolute() / 'study.db'}"
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        engine = {"connect_args": {"timeout": timing.sqlite_lock}}
    beats: dict[str, Any] = {"heartbeat_interval": timing.heartbeat, "grace_period": timing.grace}
    return RDBStorage(url, engine, heartbeat_stale_trial_callback=requeue, **beats)


def set_sampler(study: optuna.Study, name: str, *, seed: int, draw: int) -> None:
    """Give the study a new sampler for its next draw, seeded by `seed` and the number of the draw.

    So the settings of draw N depend neither on the process that draws nor on earlier kills.
    """
    with quiet():
        study.sampler = SAMPLERS[name]((seed * 1_000_003 + draw) % 2**32)


def suggest(trial: Trial, name: str, dimension: Dimension) -> Any:
    """The value of one option that the study's sampler chooses."""
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    suggest_number: Any = trial.suggest_int if isinstance(dimension.low, int) else trial.suggest_float
    return suggest_number(name, dimension.low, dimension.high, log=dimension.log)


def requeue_dead(study: optuna.Study) -> None:
    """Queue the trials of dead processes again: those of this machine at once, those of another after its silence."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_dead(trial.user_attrs.get("process", {})):
            study.tell(trial.number, state=TrialState.FAIL)
            requeue(study, trial)
    with quiet():
        optuna.storages.fail_stale_trials(study)


def is_dead(process: dict[str, str]) -> bool:
    """Whether the tags are those of a process of this machine that has ended; False for another machine's."""
    return process.get("vlx.host") == process_tags()["vlx.host"] and not is_alive(process["vlx.process"])


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue the settings again, up to MAX_ATTEMPTS; a run whose folder is on this machine resumes its checkpoint."""
    attempt = trial.user_attrs.get("attempt", 1)
    if attempt < MAX_ATTEMPTS:
        settings = trial.system_attrs.get("fixed_params", {}) | trial.params
        study.enqueue_trial(settings, user_attrs={"retry_of": trial.number, "attempt": attempt + 1})
