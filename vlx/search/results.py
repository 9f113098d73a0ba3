"""The trials of a study as rows, the best of them, and the importance of each option."""

from operator import itemgetter
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from vlx.errors import TrainingError

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """One row per trial, as `tracking.log_search` takes them. A trial that has been queued again is killed."""
    trials = study.get_trials(deepcopy=False)
    requeued = {trial.user_attrs.get("retry_of") for trial in trials}
    return [trial_row(trial, "killed" if trial.number in requeued else state_of(trial)) for trial in trials]


def state_of(trial: FrozenTrial) -> str:
    return STATES.get(trial.state, trial.state.name.lower())


def trial_row(trial: FrozenTrial, state: str) -> dict[str, Any]:
    has_cost = trial.values is not None and len(trial.values) > 1
    return {
        "number": trial.number,
        "state": state,
        "settings": trial.params,
        "evaluations": trial.last_step or 0,
        "score": score_of(trial, state),
        "cost": trial.values[1] if has_cost else None,
        "ended": trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
        "run": trial.user_attrs.get("run", ""),
        "note": trial.user_attrs.get("note", ""),
    }


def score_of(trial: FrozenTrial, state: str) -> float | None:
    """The score of a complete trial; of any other, unless it failed, the last score that it reported."""
    if trial.values:
        return trial.values[0]
    reported = list(trial.intermediate_values.values())
    return reported[-1] if reported and state != "failed" else None


def best_trial(study: optuna.Study) -> dict[str, Any]:
    """The row of the complete trial with the highest score. Raises TrainingError if no trial is complete."""
    complete = [row for row in trial_rows(study) if row["state"] == "complete"]
    if not complete:
        raise TrainingError(f"study {study.study_name}: no trial was completed; give more trials.")
    return max(complete, key=itemgetter("score"))


def importances(study: optuna.Study) -> dict[str, float]:
    """Option -> PED-ANOVA importance (Watanabe et al. 2023), together 1; empty if all scores are equal.

    A pruned trial counts with the last score that it reported.
    """
    scores = {row["number"]: row["score"] for row in trial_rows(study) if row["state"] in ("complete", "pruned")}
    if len(set(scores.values())) < 2:
        return {}
    single_objective = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False):
        score = scores.get(trial.number)
        if score is not None:
            single_objective.add_trial(
                optuna.create_trial(params=trial.params, distributions=trial.distributions, value=score)
            )
    return optuna.importance.get_param_importances(single_objective)
