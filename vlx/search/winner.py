"""What follows the last trial: the best settings as a preset, and a promoted model that is trained with them."""

import dataclasses
import json
import logging
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from vlx import tracking, workspace
from vlx.files import write_json
from vlx.search.results import trial_rows
from vlx.search.session import Session
from vlx.search.trial import ignore_report

log = logging.getLogger("vlx")
NOT_IN_PRESET = workspace.UNHASHED_OPTIONS | {"seed", "corpus", "source"}  # `mlflow run` always passes these
FRESH_SEEDS = 3  # seeds with which the best settings are trained before one model is registered


def write_preset(session: Session, run: tracking.Run, *, best: dict[str, Any]) -> None:
    """Write the best trial's settings to best.yaml, a preset of the verb: what differs from the verb's defaults."""
    settings = best["settings"]
    run.set_tags({f"best/{name}": value for name, value in (settings | {"trial": best["number"]}).items()})
    options = session.base.as_dict()
    defaults = type(session.base)().as_dict()
    changed = {name: value for name, value in options.items() if value != defaults[name]} | settings
    preset = {"task": options["task"]} | {name: changed[name] for name in changed if name not in NOT_IN_PRESET}
    path = session.folder / "best.yaml"
    name = session.study.study_name
    source = f"trial {best['number']} of study {name}: {best['score']:.4f} on the validation split"
    head = f"# COMMAND    mlflow run . -e {session.config.verb} -P preset={path}\n# SOURCE     {source}\n"
    path.write_text(head + yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")
    run.log_artifact(path)
    log.info("best: %s, %s; as a preset: %s", settings, source, path)
    if session.config.second_objective:
        for row in tracking.pareto_front(trial_rows(session.study)):
            log.info("on the front: trial %d, %.4f at %g", row["number"], row["score"], row["cost"])


def promote_winner(session: Session, run: tracking.Run, *, best: dict[str, Any]) -> None:
    """Train the best settings with FRESH_SEEDS seeds, register the best of their models, promote it if it is better
    than the champion."""
    config: Any = dataclasses.replace(session.base, **(session.space.fixed | best["settings"]))
    lineage = {"study": session.study.study_name, "study_run": run.id, "study_trial": best["number"]}
    candidates = train_candidates(session, config, run=run, lineage=lineage)
    mean = sum(candidate["score"] for candidate in candidates) / len(candidates)
    run.log_metrics({"search/fresh_mean": mean}, step=best["number"])
    winner = max(candidates, key=itemgetter("score"))
    name = winner["name"]
    description = f"The best of {FRESH_SEEDS} seeds."
    config = dataclasses.replace(config, seed=winner["seed"])
    with tracking.run(config, name="", folder=Path(winner["folder"]), description=description) as resumed:
        version = resumed.register(name, tags=winner["tags"] | lineage | {"study_score": best["score"]})
    if version is None:
        log.warning("%s is not registered yet: the server is away; sync, then promote it.", name)
        return
    metric = next(key for key in winner["tags"] if key.startswith("val/"))
    verdict = tracking.promote(name, version, metric=metric)
    log.info("%s: %s (%s)", name, "promoted" if verdict.moved else "not promoted", verdict.reason)


def train_candidates(
    session: Session, config: Any, *, run: tracking.Run, lineage: dict[str, Any]
) -> list[dict[str, Any]]:
    """Train with the seeds that follow those of the trials: score, seed, folder, model name and registry tags of each.

    A resumed search does not repeat the seeds that fresh-KEY.json has.
    """
    path = session.folder / f"fresh-{workspace.options_hash(config.as_dict())}.json"
    candidates = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    tags = {f"vlx.{name}": value for name, value in lineage.items()}
    first = config.seed + session.config.seeds
    for seed in range(first + len(candidates), first + FRESH_SEEDS):
        tracked = tracking.Trial(
            parent=run.uuid, name=f"best settings, seed {seed}", tags=tags, report=ignore_report, publishes=True
        )
        score = session.train(dataclasses.replace(config, seed=seed), tracked)
        if tracked.run is None or tracked.candidate is None:
            raise RuntimeError(f"{session.config.verb} registers no model.")
        name, registry_tags = tracked.candidate
        folder = str(tracked.run.folder)
        candidates.append({"score": score, "seed": seed, "folder": folder, "name": name, "tags": registry_tags})
        write_json(path, candidates)
    return candidates
