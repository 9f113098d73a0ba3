"""What distillation gains: every method against the same student on labels alone, at the same steps, in paired seeds.

python benchmarks/distillation.py                    a small corpus, one seed: minutes
python benchmarks/distillation.py --full             the built-in corpus, nlvr2, five seeds: an hour or two
python benchmarks/distillation.py --full --data easy-vqa    from its pixels (pip install --no-deps easy-vqa)
python benchmarks/distillation.py --arms KD,MKD      some arms; a run that was stopped goes on

One teacher of all labels (seed 0, or --teacher=FOLDER); students of half its layers with seeds 0, 1, ..., fixed before
the first look. They see the labels of a few examples and, unless an arm says "same data", also read all others, as the
teacher answers them. The test split chooses nothing: the best step is the validation split's choice, and options were
chosen with seed 100. All is in MLflow, the table and the figure in the run above all others. Options of distill may
follow.
"""

import argparse
import copy
import dataclasses
import json
import logging
import os
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from vlx.training.batching import Data, open_data

from vlx import tasks, tracking, workspace
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig, parse
from vlx.training import recipes, results

SETS = {
    "easy-vqa": [
        *("--task=vqa_rad", "--detector=components-v1", "--teacher_steps=2000", "--teacher_lr=1e-3"),
        *("--train_examples=400", "--steps=500", "--lr=2e-3", "--eval_every=125"),
    ],
    "scenes": ["--task=nlvr2", "--train_examples=400"],
}
SMALL = ["--corpus_size=1000", "--teacher_steps=200", "--steps=60", "--warmup_steps=6", "--eval_every=30"]
ARMS: dict[str, dict[str, Any]] = {
    "no KD": {"alpha": 0.0},
    "KD same data": {},
    "KD": {"unlabelled": True},
    "PKD": {"unlabelled": True, "method": "pkd"},
    "TinyBERT": {"unlabelled": True, "method": "tinybert"},
    "MKD": {"unlabelled": True, "method": "mkd"},
    "MKD+Reptile": {"unlabelled": True, "method": "mkd", "reptile": True},
}
PRIOR = {"easy-vqa": 0.670}  # of the question alone
TEACHER = "teacher"
Scores = dict[str, dict[int, float]]  # arm -> seed -> test accuracy


def write_easy_vqa(folder: Path) -> Path:
    """The package's pictures and questions in the form of docs/bring-your-own.md, its own test split as the test."""
    import easy_vqa

    splits = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "test": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    rows: list[dict[str, str]] = []
    (folder / "pictures").mkdir(parents=True)
    for split, ((questions, answers, numbers), paths) in splits.items():
        for number, path in paths.items():
            shutil.copyfile(path, folder / "pictures" / f"{split}-{number}.png")
        for place, (question, answer, number) in enumerate(zip(questions, answers, numbers, strict=True)):
            kind = "yes/no" if answer in ("yes", "no") else "other"
            about = {"qid": f"{split}-{place}", "image_name": f"{split}-{number}.png", "phrase_type": split}
            rows.append(about | {"question": question, "answer": answer, "answer_type": kind})
    workspace.write_json(folder / "questions.json", rows)
    return folder


def configured(data: str, words: Sequence[str], folder: Path) -> DistillConfig:
    given = [*SETS[data], f"--work_dir={folder}", "--baseline=false", *words]
    if data == "easy-vqa" and not any(word.startswith(("--corpus", "--source")) for word in words):
        source = folder / data
        given.append(f"--source={source if source.is_dir() else write_easy_vqa(source)}")
    return parse(DistillConfig, given)


class Bench(NamedTuple):
    """What all runs share: options, the task and its teacher, and the splits with and without the unlabelled."""

    base: DistillConfig
    task: tasks.Task
    teacher: Loaded
    known: results.Result  # the teacher's
    data: dict[bool, Data]


def opened(base: DistillConfig) -> Bench:
    corpus = recipes.corpus_of(base)
    task = tasks.load(base.task, corpus.answers(base.task))
    teacher, known = recipes.obtain_teacher(base, task, corpus)
    more = {each: dataclasses.replace(base, unlabelled=each) for each in (False, True)}
    data = {each: open_data(corpus, task, teacher.words, cfg) for each, cfg in more.items()}
    known = known or results.measure(teacher, data[False], task, title=TEACHER)
    return Bench(base, task, teacher, known, data)


def student_score(bench: Bench, arm: str, seed: int, above: tracking.Run) -> float:
    """Test accuracy of a new student, in a run of its own."""
    cfg = dataclasses.replace(bench.base, seed=seed, **ARMS[arm])
    name, data, task = f"{arm}, seed {seed}", bench.data[cfg.unlabelled], bench.task
    told = tracking.Trial(above.uuid, name, {"arm": arm, "seed": seed}, lambda *_: None, publishes=True)
    teacher = dataclasses.replace(bench.teacher, model=copy.deepcopy(bench.teacher.model))  # Reptile moves it
    folder = above.folder / name
    with tracking.run(
        cfg, name=name, folder=folder, description=recipes.describe(cfg), parent=above, trial=told
    ) as run:
        recipes.log_inputs(run, data)
        recipes.train_student(cfg, task, data, teacher, run, results.lineage(bench.known))
    return told.metrics[f"test/{task.metric}"]


def collect(bench: Bench, arms: Sequence[str], seeds: int, run: tracking.Run) -> Scores:
    """All scores, seed by seed; those of an earlier process of the same options are kept."""
    path, teacher = run.folder / "scores.json", bench.known.scores[bench.task.metric]
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for seed, arm in product(range(seeds), arms):
        key = f"{arm}/{seed}"
        if key not in kept:
            started = time.process_time()
            kept[key] = student_score(bench, arm, seed, run)
            workspace.write_json(path, kept)
            took = f"{time.process_time() - started:.0f} s of processor"
            print(f"seed {seed}  {arm:14s} {kept[key]:.4f}  (teacher {teacher:.4f})  {took}", flush=True)
        run.log_metrics({f"test/{arm}": kept[key]}, step=seed)
    return {TEACHER: {0: teacher}} | {arm: {seed: kept[f"{arm}/{seed}"] for seed in range(seeds)} for arm in arms}


def spread(values: Sequence[float], sign: str = "") -> str:
    more = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.4f}{more}"


def paired(scores: Mapping[int, float], others: Mapping[int, float] | None) -> str:
    """Mean and deviation of the differences, and at how many seeds they are above 0."""
    if others is None or others is scores:
        return ""
    apart = [scores[seed] - others[seed] for seed in scores]
    return f"{spread(apart, '+')}, {sum(value > 0 for value in apart)} of {len(apart)} seeds"


def table_of(scores: Scores) -> list[list[str]]:
    rows = [["", "test accuracy", "share of its teacher", "above no KD", "above KD"]]
    for arm, found in scores.items():
        share = [score / scores[TEACHER][0] for score in found.values()]
        above = [paired(found, scores.get(other)) if arm != TEACHER else "" for other in ("no KD", "KD")]
        rows.append([arm, spread(list(found.values())), spread(share), *above])
    return rows


def figure_of(scores: Scores, title: str, prior: float | None) -> Figure:
    """Each seed's score and the mean of each arm."""
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(scores)), layout="constrained")
    axes = figure.subplots()
    for place, found in enumerate(reversed(scores.values())):
        values = list(found.values())
        axes.plot(values, [place] * len(values), "o", color="#2b6cb0", alpha=0.5)
        axes.plot([statistics.mean(values)] * 2, [place - 0.3, place + 0.3], color="#dd6b20", linewidth=2)
    axes.set_yticks(range(len(scores)), list(reversed(scores)))
    if prior:
        axes.axvline(prior, color="#8a8f98", linestyle="--", label=f"from the question alone: {prior:.3f}")
        axes.legend(frameon=False, loc="lower left")
    axes.set(xlabel="test accuracy: one point a seed, line at the mean", title=title)
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--data", choices=SETS, default="scenes")
    parser.add_argument("--seeds", type=int, help="of students; 1, or 5 of --full")
    parser.add_argument("--arms", default=",".join(ARMS), help="joined by commas")
    parser.add_argument("--folder", default="outputs/benchmarks/distillation", help="corpora, runs and scores")
    given, words = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "benchmark: distillation")
    seeds, words = given.seeds or (5 if given.full else 1), [*([] if given.full else SMALL), *words]
    base = recipes.with_teacher(configured(given.data, words, Path(given.folder)))
    arms = [arm for arm in ARMS if arm in given.arms.split(",")]
    place, bench = Path(given.folder) / f"{given.data}-{workspace.key(base.as_dict())}", opened(base)
    with tracking.run(base, name=f"distillation on {given.data}", folder=place, description=__doc__ or "") as run:
        scores = collect(bench, arms, seeds, run)
        rows = table_of(scores)
        run.log_text(json.dumps({"columns": rows[0], "data": rows[1:]}), "scores.table.json")
        prior = PRIOR.get(given.data)
        run.log_figure(figure_of(scores, f"Distillation on {given.data}", prior), "figures/distillation.png")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
