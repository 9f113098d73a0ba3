"""What distillation gains: each method against the same student on labels alone, with equal steps and paired seeds.

python benchmarks/distillation.py                    a small corpus, one seed: minutes
python benchmarks/distillation.py --full             the built-in corpus, nlvr2, five seeds: an hour or two
python benchmarks/distillation.py --full --data easy-vqa    from its pixels (pip install --no-deps easy-vqa)
python benchmarks/distillation.py --arms KD,MKD      some arms; a run that was stopped continues

One teacher is trained on all labels (seed 0, or --teacher=FOLDER). Students have half its layers and the seeds 0, 1,
..., which were fixed before the first result. They have the labels of a few examples and, unless an arm is called "same
data", also read the unlabeled rest, for which the teacher's predictions are the target. The validation split chooses
the best step; options were chosen with seed 100; the test split chooses nothing. All runs are in MLflow, below one run
with the table and the figure. Options of distill may follow.
"""

import argparse
import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from runs import distill, figure_of, mean_and_deviation, paired, tracked

import vlx
from vlx import tracking, workspace
from vlx.config import DistillConfig, parse
from vlx.files import write_json
from vlx.recipes.corpus import open_corpus
from vlx.recipes.distill import with_teacher

DATA = {
    "easy-vqa": [
        *("--task=vqa_rad", "--detector=components-v1", "--teacher_steps=2000", "--teacher_lr=1e-3"),
        *("--train_examples=400", "--steps=500", "--lr=2e-3", "--eval_every=125"),
    ],
    "synthetic": ["--task=nlvr2", "--train_examples=400"],
}
SMALL = ["--corpus_size=1000", "--teacher_steps=200", "--steps=60", "--warmup_steps=6", "--eval_every=30"]
ARMS: dict[str, dict[str, Any]] = {
    "no KD": {"alpha": 0.0},
    "KD same data": {},
    "KD": {"unlabeled": True},
    "PKD": {"unlabeled": True, "method": "pkd"},
    "TinyBERT": {"unlabeled": True, "method": "tinybert"},
    "MKD": {"unlabeled": True, "method": "mkd"},
    "MKD+Reptile": {"unlabeled": True, "method": "mkd", "reptile": True},
}
QUESTION_ALONE = {"easy-vqa": 0.670}  # accuracy without the image
TEACHER = "teacher"
BASELINES = ("no KD", "KD")
METRIC = "accuracy"
Scores = dict[str, dict[int, float]]  # arm -> seed -> test accuracy


def write_easy_vqa(folder: Path) -> Path:
    """Write the package's images and questions in the form of docs/data.md, with the package's test split."""
    import easy_vqa

    splits = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "test": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    rows: list[dict[str, str]] = []
    (folder / "pictures").mkdir(parents=True)
    for split, ((questions, answers, image_ids), paths) in splits.items():
        for image_id, path in paths.items():
            shutil.copyfile(path, folder / "pictures" / f"{split}-{image_id}.png")
        for index, (question, answer, image_id) in enumerate(zip(questions, answers, image_ids, strict=True)):
            rows.append(
                {
                    "qid": f"{split}-{index}",
                    "image_name": f"{split}-{image_id}.png",
                    "phrase_type": split,
                    "question": question,
                    "answer": answer,
                    "answer_type": "yes/no" if answer in ("yes", "no") else "other",
                }
            )
    write_json(folder / "questions.json", rows)
    return folder


def config_of(data: str, options: Sequence[str], folder: Path) -> DistillConfig:
    options = [*DATA[data], f"--work_dir={folder}", "--baseline=false", *options]
    if data == "easy-vqa" and not any(option.startswith(("--corpus=", "--source=")) for option in options):
        source = folder / data
        options.append(f"--source={source if source.is_dir() else write_easy_vqa(source)}")
    return parse(DistillConfig, options)


def teacher_score(cfg: DistillConfig) -> float:
    """Return the test accuracy of the teacher."""
    corpus = open_corpus(cfg)
    teacher = vlx.load(cfg.teacher)
    test = vlx.task(cfg.task, corpus).datasets(corpus, like=teacher).test
    return vlx.evaluate(teacher, test)[METRIC]


def collect(base: DistillConfig, arms: Sequence[str], seeds: int, run: tracking.Run) -> Scores:
    """Return all scores, seed by seed. Scores that an earlier process wrote to the run's folder are reused."""
    path = run.folder / "scores.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {TEACHER: teacher_score(base)}
    for seed, arm in product(range(seeds), arms):
        key = f"{arm}/{seed}"
        if key not in results:
            started = time.process_time()
            cfg = dataclasses.replace(base, seed=seed, **ARMS[arm])
            tags = {"arm": arm, "seed": seed}
            trial = tracked(distill.main, cfg, name=f"{arm}, seed {seed}", tags=tags, parent=run.uuid)
            results[key] = trial.metrics[f"test/{METRIC}"]
            write_json(path, results)
            seconds = time.process_time() - started
            line = f"{results[key]:.4f}  (teacher {results[TEACHER]:.4f})  {seconds:.0f} s of processor"
            print(f"seed {seed}  {arm:14s} {line}", flush=True)
        run.log_metrics({f"test/{arm}": results[key]}, step=seed)
    return {TEACHER: {0: results[TEACHER]}} | {
        arm: {seed: results[f"{arm}/{seed}"] for seed in range(seeds)} for arm in arms
    }


def table_of(scores: Scores) -> list[list[str]]:
    rows = [["", "test accuracy", "share of its teacher", *(f"above {baseline}" for baseline in BASELINES)]]
    teacher = scores[TEACHER][0]
    for arm, by_seed in scores.items():
        shares = [score / teacher for score in by_seed.values()]
        gains = [
            paired(by_seed, scores[baseline]) if baseline in scores and arm not in (TEACHER, baseline) else ""
            for baseline in BASELINES
        ]
        rows.append([arm, mean_and_deviation(list(by_seed.values())), mean_and_deviation(shares), *gains])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--data", choices=DATA, default="synthetic")
    parser.add_argument("--seeds", type=int, help="of students; 1, or 5 with --full")
    parser.add_argument("--arms", default=",".join(ARMS), help="joined by commas")
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks/distillation"))
    args, options = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "benchmark: distillation")
    small = [] if args.full else SMALL
    base = with_teacher(config_of(args.data, [*small, *options], args.folder))
    arms = [arm for arm in ARMS if arm in args.arms.split(",")]
    folder = args.folder / f"{args.data}-{workspace.options_hash(base.as_dict())}"
    with tracking.run(base, name=f"distillation on {args.data}", folder=folder, description=__doc__ or "") as run:
        scores = collect(base, arms, args.seeds or (5 if args.full else 1), run)
        rows = table_of(scores)
        run.log_text(json.dumps({"columns": rows[0], "data": rows[1:]}), "scores.table.json")
        panel = {arm: list(by_seed.values()) for arm, by_seed in scores.items()}
        figure = figure_of({"test accuracy": panel}, f"Distillation on {args.data}")
        if prior := QUESTION_ALONE.get(args.data):
            axes = figure.axes[0]
            axes.axvline(prior, color="#8a8f98", linestyle="--", label=f"from the question alone: {prior:.3f}")
            axes.legend(frameon=False, loc="lower left")
        run.log_figure(figure, "figures/distillation.png")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
