"""The study: where its trials are kept, how the next is chosen, and what becomes of one whose process died."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from vlx.spaces import Dimension
from vlx.tracking.store import is_alive, process_tags

BEAT, GRACE = 60, 180  # seconds: a trial on another machine says that it runs; silent for so long it is dead
PATIENCE = 60.0  # seconds that sqlite waits while another process writes
ATTEMPTS = 3  # of settings whose process was killed
STARTUP = 6  # random trials before TPE and GP look at what was found
FIRST, REDUCTION = 2, 4  # of asha: the evaluation at which it first compares; of how many trials one goes on
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=True),
    "random": RandomSampler,
    "grid": RandomSampler,  # draws nothing: its trials are in the queue
}
PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    "asha": lambda _: SuccessiveHalvingPruner(FIRST, REDUCTION),
    "hyperband": lambda _: HyperbandPruner(reduction_factor=3),
    "median": lambda _: MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    # as sure as all seeds but the last can make it, and no surer than 0.1
    "wilcoxon": lambda seeds: WilcoxonPruner(p_threshold=max(0.1, 1.01 * 0.5 ** (seeds - 1))),
    "none": lambda _: NopPruner(),
}
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna calls half of what is used here experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(cfg: SearchConfig, name: str, folder: Path, identity: str) -> optuna.Study:
    """The study of that name, made if need be. Raises ConfigError if it is of other options, or not to be reached."""
    if cfg.sampler == "cmaes" and find_spec("cmaes") is None:
        raise ConfigError("sampler=cmaes: needs the package cmaes; pip install cmaes, or choose another sampler.")
    kind = ("none" if cfg.against else "wilcoxon" if cfg.seeds > 1 else "asha") if cfg.pruner == "auto" else cfg.pruner
    aims = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: 2 if cfg.against else 1]
    try:
        with quiet():
            storage, pruner = open_storage(cfg.storage, folder), PRUNERS[kind](cfg.seeds)
            study = optuna.create_study(
                storage=storage, pruner=pruner, study_name=name, directions=aims, load_if_exists=True
            )
            known = study.user_attrs.get("identity", identity)
            study.set_user_attr("identity", known)
    except Exception as error:  # every driver has its own
        where = cfg.storage.rpartition("@")[2] or folder  # without a password
        raise ConfigError(f"storage={where}: cannot be used ({one_line(str(error))[:200]}).") from error
    if known != identity:
        raise ConfigError(f"study={name}: was made with other options or another space; choose another name.")
    return study


def open_storage(given: str, folder: Path) -> BaseStorage:
    if given == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.log")))
    url = given or f"sqlite:///{folder.absolute() / 'study.db'}"
    engine = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    beats: dict[str, Any] = {"heartbeat_interval": BEAT, "grace_period": GRACE}
    return RDBStorage(url, engine, heartbeat_stale_trial_callback=queue_again, **beats)


def set_sampler(study: optuna.Study, name: str, *, seed: int, draw: int) -> None:
    """A new one for each draw, its seed of both: who draws, and how often it was killed, changes nothing."""
    with quiet():
        study.sampler = SAMPLERS[name]((seed * 1_000_003 + draw) % 2**32)


def suggest(trial: Trial, name: str, values: Dimension) -> Any:
    if values.choices:
        return trial.suggest_categorical(name, values.choices)
    kind: Any = trial.suggest_int if isinstance(values.low, int) else trial.suggest_float
    return kind(name, values.low, values.high, log=values.log)


def reclaim(study: optuna.Study) -> None:
    """Queue again what dead processes were at: of this machine at once, of others when they have been silent."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_dead(trial.user_attrs.get("process", {})):
            study.tell(trial.number, state=TrialState.FAIL)
            queue_again(study, trial)
    with quiet():
        optuna.storages.fail_stale_trials(study)


def is_dead(process: dict[str, str]) -> bool:
    """Known to be: a process of this machine that is gone."""
    return process.get("vlx.host") == process_tags()["vlx.host"] and not is_alive(process["vlx.process"])


def queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """The same settings: where its folder is, the run goes on from its checkpoint."""
    attempt = trial.user_attrs.get("attempt", 1)
    if attempt < ATTEMPTS:
        settings = trial.system_attrs.get("fixed_params", {}) | trial.params
        study.enqueue_trial(settings, user_attrs={"again": trial.number, "attempt": attempt + 1})


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """The trials as plain numbers, for tracking.log_search; killed: another trial has the same settings again."""
    trials = study.get_trials(deepcopy=False)
    again, found = {trial.user_attrs.get("again") for trial in trials}, []
    for trial in trials:
        state = "killed" if trial.number in again else STATES.get(trial.state, trial.state.name.lower())
        values = trial.values or ([] if state == "failed" else list(trial.intermediate_values.values())[-1:])
        row = {"number": trial.number, "state": state, "settings": trial.params, "looks": trial.last_step or 0}
        row |= {"score": values[0] if values else None, "cost": values[1] if len(values) > 1 else None}
        row |= {"ended": trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0}
        found.append(row | {name: trial.user_attrs.get(name, "") for name in ("run", "note")})
    return found


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each option decides the score, together 1; pruned trials count with the last score they reported."""
    scores = {row["number"]: row["score"] for row in rows(study) if row["state"] in ("complete", "pruned")}
    plain = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False):
        if scores.get(trial.number) is not None:
            kinds, value = trial.distributions, scores[trial.number]
            plain.add_trial(optuna.create_trial(params=trial.params, distributions=kinds, value=value))
    return optuna.importance.get_param_importances(plain) if len(set(scores.values())) > 1 else {}
