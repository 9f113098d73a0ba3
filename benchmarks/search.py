"""Does a search with pruning reach the settings of random search with half its compute?

python benchmarks/search.py           a few small trials: minutes
python benchmarks/search.py --full    the claim: 20 trials of distill each, 3 study seeds: hours

Compute is the number of optimizer steps of students; all trials share a teacher. The best settings of each method are
trained again with fresh seeds and scored on the test split. Options of distill may follow.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from runs import distill, search, tracked

from vlx.config import DistillConfig, SearchConfig, parse
from vlx.recipes.distill import with_teacher

SMALL = ["--corpus_size=2000", "--teacher_steps=600", "--steps=120", "--warmup_steps=12", "--eval_every=12"]
FULL = ["--eval_every=50"]
METHODS = {"search": ("tpe", "auto"), "random": ("random", "none")}  # sampler and pruner
SETTINGS = ("alpha", "temperature", "lr")
FIRST_FRESH_SEED = 1_000  # no study has it
Trial = dict[str, Any]  # a row of a study's table, with the optimizer steps it took


class Choice(NamedTuple):
    """The best settings of a method, and the steps of all its trials."""

    settings: dict[str, float]
    steps: int


def run_study(method: str, options: list[str], *, seed: int, num_trials: int, folder: Path) -> list[Trial]:
    """Return the trials of a study."""
    sampler, pruner = METHODS[method]
    study = [f"--study={method}-{seed}", f"--seed={seed}", f"--trials={num_trials}", f"--work_dir={folder}"]
    cfg = parse(SearchConfig, [*study, f"--sampler={sampler}", f"--pruner={pruner}", *options])
    search.main(cfg)
    table = json.loads((folder / "studies" / cfg.study / "artifacts" / "trials.table.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    eval_every = cfg.base().as_dict()["eval_every"]
    return [row | {"steps": row["evaluations"] * eval_every} for row in rows]


def total_steps(trials: list[Trial]) -> int:
    return sum(trial["steps"] for trial in trials)


def best_of(trials: list[Trial]) -> Choice:
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["score"])
    return Choice(settings_of(best), total_steps(trials))


def settings_of(trial: Trial) -> dict[str, float]:
    return {name: trial[name] for name in SETTINGS}


def within_budget(trials: list[Trial], steps: int) -> list[Trial]:
    """Return the first trials that take at most `steps` together, at least one."""
    spent = 0
    for count, trial in enumerate(trials):
        spent += trial["steps"]
        if spent > steps:
            return trials[: max(count, 1)]
    return trials


def test_accuracy(settings: dict[str, float], base: DistillConfig, *, num_seeds: int) -> float:
    """Return the mean over new trainings with fresh seeds."""
    scores = []
    for seed in range(FIRST_FRESH_SEED, FIRST_FRESH_SEED + num_seeds):
        cfg = dataclasses.replace(base, seed=seed, baseline=False, **settings)
        scores.append(tracked(distill.main, cfg, name=f"fresh seed {seed}").metrics["test/accuracy"])
    return statistics.mean(scores)


def compare(
    seed: int, options: list[str], *, num_trials: int, num_seeds: int, folder: Path
) -> dict[str, tuple[float, int]]:
    """Return, by method, the test accuracy of its best settings and the steps of its trials."""
    base = parse(DistillConfig, [*options, f"--seed={seed}", f"--work_dir={folder}"])
    trials = {method: run_study(method, options, seed=seed, num_trials=num_trials, folder=folder) for method in METHODS}
    budget = total_steps(trials["search"])
    first = trials["random"][0]  # the settings of the preset
    choices = {
        "search": best_of(trials["search"]),
        "random": best_of(trials["random"]),
        "random, as few steps": best_of(within_budget(trials["random"], budget)),
        "preset": Choice(settings_of(first), first["steps"]),
    }
    base = with_teacher(base)
    accuracies: dict[str, float] = {}  # by settings: methods may choose equal ones
    for choice in choices.values():
        key = json.dumps(choice.settings)
        if key not in accuracies:
            accuracies[key] = test_accuracy(choice.settings, base, num_seeds=num_seeds)
    return {method: (accuracies[json.dumps(choice.settings)], choice.steps) for method, choice in choices.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--trials", type=int, help="of a study; 6, or 20 with --full")
    parser.add_argument("--studies", type=int, help="study seeds; 1, or 3 with --full")
    parser.add_argument("--fresh", type=int, default=3, help="fresh seeds with which the best settings are scored")
    args, options = parser.parse_known_args()
    num_trials = args.trials or (20 if args.full else 6)
    num_studies = args.studies or (3 if args.full else 1)
    options = [*(FULL if args.full else SMALL), *options]
    wins = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        for seed in range(num_studies):
            results = compare(seed, options, num_trials=num_trials, num_seeds=args.fresh, folder=Path(folder))
            random_accuracy, random_steps = results["random"]
            for method, (accuracy, steps) in results.items():
                share = f"x{steps / random_steps:.2f} of random's steps"
                print(f"study seed {seed}  {method:22s} test accuracy {accuracy:.4f}  {share}", flush=True)
            accuracy, steps = results["search"]
            wins += accuracy >= random_accuracy and steps <= random_steps / 2
    print(f"as good as {num_trials} random trials with half their steps or fewer: {wins} of {num_studies} study seeds")


if __name__ == "__main__":
    main()
