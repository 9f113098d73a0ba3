"""Does a search with pruning find settings as good as random search does, at half its compute?

python benchmarks/search.py           a few small trials: minutes
python benchmarks/search.py --full    the claim: 20 trials of distill each way, 3 study seeds: hours

Compute is counted in optimizer steps of students; all ways share a teacher. The best settings of each way are trained
again with fresh seeds and scored on the test split. Options of distill may follow.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import distill, search  # noqa: E402
from vlx import tracking  # noqa: E402
from vlx.config import DistillConfig, SearchConfig, parse  # noqa: E402
from vlx.training import recipes  # noqa: E402

SMALL = ["--corpus_size=2000", "--teacher_steps=600", "--steps=120", "--warmup_steps=12", "--eval_every=12"]
FULL = ["--eval_every=50"]
WAYS = {"search": ("tpe", "auto"), "random": ("random", "none")}  # sampler and pruner
SETTINGS = ("alpha", "temperature", "lr")
Trial = dict[str, Any]


def find(way: str, seed: int, trials: int, words: list[str], folder: Path) -> list[Trial]:
    """The trials of a study, with the steps that each took."""
    sampler, pruner = WAYS[way]
    ours = [f"--study={way}-{seed}", f"--seed={seed}", f"--trials={trials}", f"--work_dir={folder}"]
    cfg = parse(SearchConfig, [*ours, f"--sampler={sampler}", f"--pruner={pruner}", *words])
    search.main(cfg)
    content = json.loads((folder / "studies" / cfg.study / "artifacts" / "trials.table.json").read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    every = cfg.base().as_dict()["eval_every"]
    return [row | {"steps": row["evaluations"] * every} for row in rows]


def best(trials: list[Trial]) -> Trial:
    return max((row for row in trials if row["state"] == "complete"), key=lambda row: row["score"])


def within(trials: list[Trial], steps: int) -> list[Trial]:
    """The first trials, as many as these steps pay for, at least one."""
    spent = 0
    for count, row in enumerate(trials):
        spent += row["steps"]
        if spent > steps:
            return trials[: max(count, 1)]
    return trials


def rescore(settings: Trial, base: DistillConfig, fresh: int) -> float:
    """Mean test accuracy of new trainings, with seeds that no study has seen."""
    scores = []
    for seed in range(1_000, 1_000 + fresh):
        told = tracking.Trial("", f"fresh seed {seed}", {}, lambda *_: None, publishes=True)
        given = {name: settings[name] for name in SETTINGS}
        distill.main(dataclasses.replace(base, seed=seed, baseline=False, **given), told)
        scores.append(told.metrics["test/accuracy"])
    return statistics.mean(scores)


def compare(seed: int, trials: int, fresh: int, words: list[str], folder: Path) -> dict[str, tuple[float, int]]:
    """Way -> test accuracy, and the steps that its settings took to find."""
    base = parse(DistillConfig, [*words, f"--seed={seed}", f"--work_dir={folder}"])
    found = {way: find(way, seed, trials, words, folder) for way in WAYS}
    spent = {way: sum(row["steps"] for row in rows) for way, rows in found.items()}
    few = within(found["random"], spent["search"])
    chosen = {"search": (best(found["search"]), spent["search"]), "random": (best(found["random"]), spent["random"])}
    chosen["random, as few steps"] = (best(few), sum(row["steps"] for row in few))
    chosen["preset"] = (found["random"][0], found["random"][0]["steps"])
    base = recipes.with_teacher(base)
    kept: dict[str, float] = {}
    for row, _ in chosen.values():
        key = json.dumps([row[name] for name in SETTINGS])
        kept[key] = kept[key] if key in kept else rescore(row, base, fresh)
    return {way: (kept[json.dumps([row[name] for name in SETTINGS])], steps) for way, (row, steps) in chosen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--trials", type=int, help="of a study; 6, or 20 of --full")
    parser.add_argument("--studies", type=int, help="study seeds; 1, or 3 of --full")
    parser.add_argument("--fresh", type=int, default=3, help="seeds with which the best settings are scored")
    given, words = parser.parse_known_args()
    trials, studies = given.trials or (20 if given.full else 6), given.studies or (3 if given.full else 1)
    wins = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        for seed in range(studies):
            found = compare(seed, trials, given.fresh, [*(FULL if given.full else SMALL), *words], Path(folder))
            for way, (score, steps) in found.items():
                share = steps / found["random"][1]
                print(
                    f"study seed {seed}  {way:22s} test accuracy {score:.4f}  x{share:.2f} of random's steps",
                    flush=True,
                )
            (ours, cost), (theirs, full) = found["search"], found["random"]
            wins += ours >= theirs and cost <= full / 2
    print(f"as good as {trials} random trials at half their steps or fewer: {wins} of {studies} study seeds")


if __name__ == "__main__":
    main()
