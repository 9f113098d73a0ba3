"""One trial of a study: its turn, its settings, its training, its score."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import optuna

from vlx import tracking, workspace
from vlx.config import SearchConfig
from vlx.errors import TrainingError, UserError
from vlx.files import write_json
from vlx.search.results import trial_rows
from vlx.search.session import Session
from vlx.search.space import Settings
from vlx.search.study import requeue_dead, set_sampler, suggest
from vlx.tracking.store import process_tags

log = logging.getLogger("vlx")
COSTS = {"latency": "model/latency_ms", "parameters": "model/parameters"}  # second objective -> metric of a run
MAX_FAILURES = 3  # failures before any other outcome: the search stops
NOTE_CHARACTERS = 300


def next_trial(session: Session) -> bool:
    """Run one more trial; returns False if the study needs none.

    Processes choose settings in turn, and train at the same time. Raises TrainingError if trials only fail.
    """
    with ExitStack() as turn:  # run_trial closes it as soon as its settings are chosen
        turn.enter_context(workspace.locked_folder(session.folder / "turn"))
        requeue_dead(session.study)
        states = [row["state"] for row in trial_rows(session.study) if row["state"] != "killed"]
        if "waiting" not in states and len(states) >= session.budget:
            return False
        objective = partial(run_trial, session, end_turn=turn.close)
        session.study.optimize(objective, n_trials=1, catch=(Exception,))
    check_failures(session.study)
    return True


def seed_sampler(study: optuna.Study, config: SearchConfig, *, number: int) -> None:
    """Seed the draw of a trial by the trials before it that were not killed. Those of the whole study would not do:
    another machine may begin one at the same moment, and would draw the same settings."""
    earlier = [row for row in trial_rows(study) if row["number"] < number and row["state"] != "killed"]
    set_sampler(study, config.sampler, seed=config.seed, draw=len(earlier))


def check_failures(study: optuna.Study) -> None:
    """Raise TrainingError if at least MAX_FAILURES trials have ended and all of them failed."""
    ended = [row for row in trial_rows(study) if row["state"] in ("complete", "pruned", "failed")]
    if len(ended) >= MAX_FAILURES and all(row["state"] == "failed" for row in ended):
        raise TrainingError(f"the first {len(ended)} trials failed, the last with {ended[-1]['note']}")


def run_trial(session: Session, trial: optuna.Trial, *, end_turn: Callable[[], None]) -> list[float]:
    """Choose settings, train with them, return the score and the cost if there is a second objective.

    end_turn: lets the next process choose its settings. Raises TrialPruned, or the error that ended the training.
    """
    trial.set_user_attr("process", process_tags())
    seed_sampler(session.study, session.config, number=trial.number)
    settings = session.space.settings(session.base.as_dict(), partial(suggest, trial))
    end_turn()
    tracked = tracking.Trial(
        parent=session.leader["uuid"],
        name=", ".join(f"{name} {format_value(value)}" for name, value in settings.items()),
        tags={"vlx.study": session.study.study_name, "vlx.trial": trial.number},
        report=reporter(session, trial, settings=settings),
    )
    try:
        score = train_settings(session, settings, tracked=tracked)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # Optuna takes KeyboardInterrupt for a failure; this trial is to be resumed
    except tracking.Pruned as error:
        discard(trial, tracked, error=error)
        log.info("trial %d is pruned, %s: %s", trial.number, error, tracked.name)
        raise optuna.TrialPruned from error
    except Exception as error:
        discard(trial, tracked, error=error)
        log.warning("trial %d failed: %s", trial.number, error, exc_info=not isinstance(error, UserError))
        raise
    finally:
        trial.set_user_attr("run", tracked.run.id if tracked.run else "")
    log.info("trial %d is complete, %.4f: %s", trial.number, score, tracked.name)
    cost = COSTS.get(session.config.second_objective)
    return [score, tracked.metrics[cost]] if cost else [score]


def reporter(session: Session, trial: optuna.Trial, *, settings: Settings) -> Callable[[float, int, bool], None]:
    """The function to which the trial's run reports its best validation score after each evaluation."""
    if session.config.second_objective:
        return ignore_report  # Optuna prunes with one objective only
    if session.config.seeds > 1:
        return partial(report, trial, 1)  # a step is a seed
    options = session.base.as_dict() | session.space.fixed | settings
    return partial(report, trial, options.get("eval_every", 1))


def report(trial: optuna.Trial, eval_every: int, score: float, step: int, last: bool) -> None:
    """Report a score to the study. Raises Pruned if the pruner ends the trial; the last score is never pruned."""
    trial.report(score, math.ceil(step / eval_every))
    if not last and trial.should_prune():
        raise tracking.Pruned(f"{score:.4f} at {step}")


def ignore_report(score: float, step: int, last: bool) -> None:
    """The report of a run that no pruner ends."""


def discard(trial: optuna.Trial, tracked: tracking.Trial, *, error: Exception) -> None:
    """Note why a trial ended, and delete its weights: no later run resumes it."""
    trial.set_user_attr("note", f"{type(error).__name__}: {error}"[:NOTE_CHARACTERS])
    if tracked.run:
        workspace.abandon(tracked.run.folder)


def train_settings(session: Session, settings: Settings, *, tracked: tracking.Trial) -> float:
    """Return the validation score of the settings. Raises TrainingError if it is not finite."""
    config = dataclasses.replace(session.base, **(session.space.fixed | settings))
    if session.config.seeds > 1:
        score = train_seeds(session, config, tracked=tracked)
    else:
        score = session.train(config, tracked)
    if not math.isfinite(score):
        raise TrainingError(f"the score is {score}.")
    return score


def train_seeds(session: Session, config: Any, *, tracked: tracking.Trial) -> float:
    """Return the mean score over the seeds; each is a run below the trial's run.

    A resumed trial does not repeat the seeds that scores.json has.
    """
    seeds = session.config.seeds
    stem = workspace.options_hash(config.as_dict())
    with (
        workspace.run_folder(session.folder / "trials", stem, resume=True) as folder,
        tracking.run(config, name="", description="", folder=folder, trial=tracked) as run,
    ):
        path = folder / "scores.json"
        results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        for number in range(seeds):
            if number == len(results):
                results.append(train_seed(session, config, run=run, seed=config.seed + number, tags=tracked.tags))
                write_json(path, results)
            score = results[number]["score"]
            run.log_metrics(results[number]["costs"] | {"val/score": score}, step=number)
            tracked.report(score, number, number + 1 == seeds)
        write_json(folder / workspace.RESULT_FILE, results)
    return sum(result["score"] for result in results) / len(results)


def train_seed(session: Session, config: Any, *, run: tracking.Run, seed: int, tags: dict[str, Any]) -> dict[str, Any]:
    """Train with one seed; returns its score, and its costs by metric (0 for a metric that the verb does not log)."""
    tracked = tracking.Trial(parent=run.uuid, name=f"seed {seed}", tags=tags, report=ignore_report)
    score = session.train(dataclasses.replace(config, seed=seed), tracked)
    return {"score": score, "costs": {name: tracked.metrics.get(name, 0.0) for name in COSTS.values()}}


def format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
