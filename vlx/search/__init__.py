"""Hyper-parameter search: a study whose trials are runs of a verb's own `main`."""

import dataclasses
import json
import logging
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import optuna
import yaml

from vlx import tracking, workspace
from vlx.config import SearchConfig
from vlx.config.base import Config, keys_of
from vlx.errors import ConfigError, TrainingError, UserError
from vlx.search import study as studies
from vlx.spaces import Settings, Space, read_space
from vlx.tracking.store import process_tags

log = logging.getLogger("vlx")
COSTS = {"latency": "model/latency_ms", "parameters": "model/parameters"}  # metrics of a run
NOT_IN_PRESET = workspace.NOT_IDENTITY | {"seed", "corpus", "source"}  # what `mlflow run` always passes
NOT_OF_WORKERS = {"workers", "promote", "description", "options"}
REFRESH = 120.0  # seconds between two drawings of the figures
LOOK = 2.0  # seconds between two looks at what other processes do
HOPELESS = 3  # failures before anything else: the search stops
FRESH = 3  # seeds with which the best settings are trained before one model is registered
Prepare = Callable[[Any], Config]  # makes once what all trials share


def run(cfg: SearchConfig, main: Callable[..., float], *, prepare: Prepare, script: Path) -> float:
    """Lead the study of these options, or join who does; `script` starts workers. Returns the best score so far."""
    base = cfg.base()
    space = read_space(cfg.space or cfg.verb, base, keys_of(shlex.split(cfg.options)))
    identity = workspace.key(base.as_dict(), cfg.verb, space.text, str(cfg.seeds), cfg.against)
    name = cfg.study or f"{cfg.verb}-{workspace.key({}, identity, cfg.sampler, cfg.pruner)}"
    if not re.fullmatch(r"[\w.-]+", name):
        raise ConfigError(f"study={name}: expected letters, digits, - _ . and nothing else.")
    folder = Path(cfg.work_dir) / "studies" / name
    with workspace.hold(folder / "turn"):
        search = Search(cfg, base, space, studies.open_study(cfg, name, folder, identity), folder, main)
    with (folder / "lead").open("w") as lock:
        while not (alone := workspace.locked(lock.fileno())) and not search.leader:
            time.sleep(LOOK)  # the other process is about to lead
        if alone and ((folder / "journal.jsonl").is_file() or not search.leader or studies.is_dead(search.leader)):
            return search.lead(prepare, script)
    log.info("joining the study %s.", name)
    search.base = prepare(base)
    while search.next_trial():
        pass
    return max((row["score"] for row in studies.rows(search.study) if row["state"] == "complete"), default=math.nan)


@dataclasses.dataclass
class Search:
    """One process's part in a study."""

    cfg: SearchConfig
    base: Config
    space: Space
    study: optuna.Study
    folder: Path
    main: Callable[..., float]

    @property
    def leader(self) -> dict[str, str]:
        """Of the process that leads or led; uuid: of its run."""
        return self.study.user_attrs.get("lead", {})

    def plan(self) -> list[Settings]:
        """What is tried whatever is found."""
        options = self.base.as_dict()
        grid = self.space.grid(options) if self.cfg.sampler == "grid" else []
        Random(self.cfg.seed).shuffle(grid)
        start = self.space.settings(options, lambda name, _: options[name])
        return [start, *(cell for cell in grid if cell != start)][: self.cfg.trials]

    def lead(self, prepare: Prepare, script: Path) -> float:
        """Run trials until all that are wanted have ended, wherever; show what was found; hand on the winner."""
        cfg, original = self.cfg, self.base.as_dict()
        about = (
            cfg.description or f"Study {self.study.study_name}: {', '.join(self.space.dimensions)} by {cfg.sampler}."
        )
        words = [f"--{key}={value}" for key, value in cfg.as_dict().items() if key not in NOT_OF_WORKERS]
        command = [sys.executable, str(script), *words, *shlex.split(cfg.options)]
        with tracking.run(cfg, name=f"search of {cfg.verb}", folder=self.folder, description=about) as run:
            run.log_text(self.space.text, "space.yaml")
            for settings in self.plan():
                self.study.enqueue_trial(settings, skip_if_exists=True)
            self.base = prepare(self.base)
            self.study.set_user_attr("lead", process_tags() | {"uuid": run.uuid})
            with workers(command, cfg.workers - 1, self.folder):
                shown = time.monotonic()
                while self.next_trial() or self.others_run():
                    tracking.log_progress(run, studies.rows(self.study))
                    if time.monotonic() - shown > REFRESH:
                        self.show(run)
                        shown = time.monotonic()
            self.show(run)
            best = self.best()
            self.write_preset(run, best, original)
            if cfg.promote:
                self.promote(run, best)
        for link in tracking.links(run):
            log.info("%s", link)
        return best["score"]

    def next_trial(self) -> bool:
        """Run a trial, if one more is wanted. Raises TrainingError if nothing but failures has been seen."""
        with ExitStack() as turn:
            turn.enter_context(workspace.hold(self.folder / "turn"))
            studies.reclaim(self.study)
            known = [row["state"] for row in studies.rows(self.study) if row["state"] != "killed"]
            budget = len(self.plan()) if self.cfg.sampler == "grid" else self.cfg.trials
            if "waiting" not in known and len(known) >= budget:
                return False
            studies.set_sampler(self.study, self.cfg.sampler, seed=self.cfg.seed, draw=len(known))
            self.study.optimize(partial(self.trial, turn), n_trials=1, catch=(Exception,))
        ends = [row for row in studies.rows(self.study) if row["state"] in ("complete", "pruned", "failed")]
        if len(ends) >= HOPELESS and all(row["state"] == "failed" for row in ends):
            raise TrainingError(f"the first {len(ends)} trials failed, the last with {ends[-1]['note']}")
        return True

    def others_run(self) -> bool:
        """Whether trials run elsewhere, after a while."""
        running = any(row["state"] == "running" for row in studies.rows(self.study))
        time.sleep(LOOK * running)
        return running

    def trial(self, turn: ExitStack, trial: optuna.Trial) -> list[float]:
        """The scores of one trial; when its settings are known others may begin theirs."""
        trial.set_user_attr("process", process_tags())
        settings = self.space.settings(self.base.as_dict(), partial(studies.suggest, trial))
        turn.close()
        title = ", ".join(f"{name} {short(value)}" for name, value in settings.items())
        tags = {"vlx.study": self.study.study_name, "vlx.trial": trial.number}
        every = 1 if self.cfg.seeds > 1 else (self.base.as_dict() | self.space.fixed | settings).get("eval_every", 1)
        told = tracking.Trial(self.leader["uuid"], title, tags, partial(self.judge, trial, every))
        try:
            config = dataclasses.replace(self.base, **(self.space.fixed | settings))
            score = self.mean(config, told) if self.cfg.seeds > 1 else self.main(config, told)
            if not math.isfinite(score):
                raise TrainingError(f"the score is {score}.")
        except KeyboardInterrupt:
            raise SystemExit(130) from None  # to Optuna a failure; this trial is to begin again
        except Exception as error:
            workspace.give_up(told.run.folder) if told.run else None
            trial.set_user_attr("note", f"{type(error).__name__}: {error}"[:300])
            if isinstance(error, tracking.Pruned):
                log.info("trial %d is pruned, %s: %s", trial.number, error, title)
                raise optuna.TrialPruned from error
            log.warning("trial %d failed: %s", trial.number, error, exc_info=not isinstance(error, UserError))
            raise
        finally:
            trial.set_user_attr("run", told.run.id if told.run else "")
        log.info("trial %d is complete, %.4f: %s", trial.number, score, title)
        return [score, told.metrics[COSTS[self.cfg.against]]] if self.cfg.against else [score]

    def mean(self, config: Any, told: tracking.Trial) -> float:
        """Over the seeds, each a run below the trial's; those that were done before a kill are not done again."""
        stem = workspace.key(config.as_dict())
        with (
            workspace.claim(self.folder / "trials", stem, resume=True) as place,
            tracking.run(config, name="", description="", folder=place, trial=told) as run,
        ):
            kept = place / "scores.json"
            scores = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
            for number in range(self.cfg.seeds):
                if number == len(scores):
                    one = tracking.Trial(run.uuid, f"seed {config.seed + number}", told.tags, lambda *_: None)
                    value = self.main(dataclasses.replace(config, seed=config.seed + number), one)
                    scores.append([value, {name: one.metrics.get(name, 0.0) for name in COSTS.values()}])
                    workspace.write_json(kept, scores)
                run.log_metrics(scores[number][1] | {"val/score": scores[number][0]}, step=number)
                told.report(scores[number][0], number, number + 1 == self.cfg.seeds)
            workspace.write_json(place / workspace.RESULT, scores)
        return sum(value for value, _ in scores) / len(scores)

    def judge(self, trial: optuna.Trial, every: int, score: float, step: int, last: bool) -> None:
        """Tell the study a score of a trial that runs. Raises Pruned if the trial is not worth going on with."""
        if self.cfg.against:
            return  # Optuna prunes with one aim only
        trial.report(score, math.ceil(step / every))
        if not last and trial.should_prune():
            raise tracking.Pruned(f"{score:.4f} at {step}")

    def best(self) -> dict[str, Any]:
        """The complete trial of the highest score."""
        complete = [row for row in studies.rows(self.study) if row["state"] == "complete"]
        if not complete:
            raise TrainingError(f"study {self.study.study_name}: no trial was completed; give more trials.")
        return max(complete, key=itemgetter("score"))

    def show(self, run: tracking.Run) -> None:
        """Figures and the table of trials."""
        logs = [name for name, values in self.space.dimensions.items() if values.log]
        decisive = studies.importances(self.study)
        tracking.log_search(run, studies.rows(self.study), importances=decisive, logs=logs, cost=self.cfg.against)

    def write_preset(self, run: tracking.Run, best: dict[str, Any], original: dict[str, Any]) -> None:
        """The best settings as a file that the verb takes; `original`: the verb's options before they were prepared."""
        run.set_tags({f"best/{name}": value for name, value in {**best["settings"], "trial": best["number"]}.items()})
        default, path = type(self.base)().as_dict(), self.folder / "best.yaml"
        changed = {name: value for name, value in original.items() if value != default[name]} | best["settings"]
        kept = {name: value for name, value in changed.items() if name not in NOT_IN_PRESET}
        source = f"trial {best['number']} of study {self.study.study_name}: {best['score']:.4f} on the validation split"
        head = f"# COMMAND    mlflow run . -e {self.cfg.verb} -P preset={path}\n# SOURCE     {source}\n"
        path.write_text(head + yaml.safe_dump({"task": original["task"]} | kept, sort_keys=False), encoding="utf-8")
        run.log_artifact(path)
        log.info("best: %s, %s; as a preset: %s", best["settings"], source, path)
        for row in tracking.front(studies.rows(self.study)) if self.cfg.against else ():
            log.info("on the front: trial %d, %.4f at %g", row["number"], row["score"], row["cost"])

    def promote(self, run: tracking.Run, best: dict[str, Any]) -> None:
        """Train the best settings with fresh seeds, register the best of these models, promote it if it is better."""
        config: Any = dataclasses.replace(self.base, **(self.space.fixed | best["settings"]))
        kept = self.folder / f"fresh-{workspace.key(config.as_dict())}.json"
        tries = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
        lineage = {"study": self.study.study_name, "study_run": run.id, "study_trial": best["number"]}
        for seed in range(config.seed + self.cfg.seeds + len(tries), config.seed + self.cfg.seeds + FRESH):
            tags = {f"vlx.{name}": value for name, value in lineage.items()}
            told = tracking.Trial(run.uuid, f"best settings, seed {seed}", tags, lambda *_: None, publishes=True)
            score = self.main(dataclasses.replace(config, seed=seed), told)
            if told.run is None or told.offer is None:
                raise RuntimeError(f"{self.cfg.verb} registers no model.")
            tries.append([score, seed, str(told.run.folder), *told.offer])
            workspace.write_json(kept, tries)
        run.log_metrics({"search/fresh_mean": sum(each[0] for each in tries) / len(tries)}, step=best["number"])
        _, seed, folder, name, facts = max(tries, key=itemgetter(0))
        winner, about = dataclasses.replace(config, seed=seed), f"The best of {FRESH} seeds."
        with tracking.run(winner, name="", folder=Path(folder), description=about) as again:
            version = again.register(name, tags=facts | lineage | {"study_score": best["score"]})
        if version is None:
            log.warning("%s is not registered yet: the server is away; sync, then promote it.", name)
            return
        verdict = tracking.promote(name, version, metric=next(key for key in facts if key.startswith("val/")))
        log.info("%s: %s (%s)", name, "promoted" if verdict.moved else "not promoted", verdict.reason)


@contextmanager
def workers(command: list[str], count: int, folder: Path) -> Iterator[None]:
    """More processes that join; they end with the block."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (count + 1)))}
    running = []
    for number in range(count):
        with (folder / f"worker-{number + 1}.log").open("ab") as out:
            running.append(subprocess.Popen(command, env=threads | os.environ, stdout=out, stderr=out))
    try:
        yield
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.wait()


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
