"""What distillation gains: every method against the same student on labels alone, at the same steps, in paired seeds.

python benchmarks/distillation.py                    easy-VQA from its pixels (pip install --no-deps easy-vqa)
python benchmarks/distillation.py --data scenes      the built-in corpus, nlvr2
python benchmarks/distillation.py --arms kd,mkd      some arms; a run that was stopped goes on

One teacher of all labels (seed 0, or --teacher=FOLDER); students of half its layers with seeds 0, 1, ..., fixed before
the first look. They see the labels of a few examples and, unless an arm says "same data", read all others as the teacher
answers them. The test split chooses nothing: the best step is the validation split's choice, and options were chosen
with seed 100. All is in MLflow, the table and the figure in the run above all others. Options of distill may follow.
"""

import argparse
import dataclasses
import json
import logging
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import distill  # noqa: E402
from vlx import tasks, tracking, workspace  # noqa: E402
from vlx.config import DistillConfig, parse  # noqa: E402
from vlx.training import recipes, results  # noqa: E402
from vlx.training.batching import open_data  # noqa: E402

SETS = {
    "easy-vqa": ["--task=vqa_rad", "--detector=components-v1", "--train_examples=400"],
    "scenes": ["--task=nlvr2", "--train_examples=400"],
}
ARMS: dict[str, dict[str, Any]] = {
    "no KD": {"alpha": 0.0},
    "KD, same data": {},
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
    if data == "easy-vqa":
        source = folder / data
        given.append(f"--source={source if source.is_dir() else write_easy_vqa(source)}")
    return parse(DistillConfig, given)


def teacher_score(cfg: DistillConfig) -> float:
    """Test accuracy of the given teacher."""
    corpus = recipes.corpus_of(cfg)
    task = tasks.load(cfg.task, corpus.answers(cfg.task))
    teacher, trained = recipes.obtain_teacher(cfg, task, corpus)
    data = open_data(corpus, task, teacher.words, cfg)
    return (trained or results.measure(teacher, data, task, title=TEACHER)).scores["accuracy"]


def student_score(cfg: DistillConfig, arm: str, above: tracking.Run) -> float:
    tags = {"arm": arm, "seed": cfg.seed}
    told = tracking.Trial(above.uuid, f"{arm}, seed {cfg.seed}", tags, lambda *_: None, publishes=True)
    distill.main(dataclasses.replace(cfg, **ARMS[arm]), told)
    return told.metrics["test/accuracy"]


def collect(base: DistillConfig, arms: Sequence[str], seeds: int, run: tracking.Run) -> Scores:
    """All scores, seed by seed; those of an earlier process of the same options are kept."""
    path = run.folder / "scores.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if TEACHER not in kept:
        kept[TEACHER] = teacher_score(base)
    for seed, arm in product(range(seeds), arms):
        key = f"{arm}/{seed}"
        if key not in kept:
            kept[key] = student_score(dataclasses.replace(base, seed=seed), arm, run)
            workspace.write_json(path, kept)
            print(f"seed {seed}  {arm:14s} {kept[key]:.4f}  (teacher {kept[TEACHER]:.4f})", flush=True)
        run.log_metrics({f"test/{arm}": kept[key]}, step=seed)
    found = {arm: {seed: kept[f"{arm}/{seed}"] for seed in range(seeds)} for arm in arms}
    return {TEACHER: {0: kept[TEACHER]}} | found


def spread(values: Sequence[float]) -> str:
    more = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{more}"


def paired(scores: Mapping[int, float], others: Mapping[int, float] | None) -> str:
    """Mean and deviation of the differences, and at how many seeds they are above 0."""
    if others is None or others is scores:
        return ""
    apart = [scores[seed] - others[seed] for seed in scores]
    return f"{spread(apart)}, {sum(value > 0 for value in apart)} of {len(apart)} seeds"


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
    parser.add_argument("--data", choices=SETS, default="easy-vqa")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS), help="joined by commas")
    parser.add_argument("--folder", default="outputs/benchmarks/distillation", help="corpora, runs and scores")
    given, words = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "benchmark: distillation")
    base = recipes.with_teacher(configured(given.data, words, Path(given.folder)))
    arms = [arm for arm in ARMS if arm in given.arms.split(",")]
    place = Path(given.folder) / f"{given.data}-{workspace.key(base.as_dict())}"
    with tracking.run(base, name=f"distillation on {given.data}", folder=place, description=__doc__ or "") as run:
        scores = collect(base, arms, given.seeds, run)
        rows = table_of(scores)
        run.log_text(json.dumps({"columns": rows[0], "data": rows[1:]}), "scores.table.json")
        prior = PRIOR.get(given.data)
        run.log_figure(figure_of(scores, f"Distillation on {given.data}", prior), "figures/distillation.png")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
