"""Distil a teacher.  mlflow run . -e distill -P task=nlvr2 -P method=mkd -P reptile=true"""

from pathlib import Path

from vlx import tasks, tracking, workspace
from vlx.config import DistillConfig, launch
from vlx.recipes import distill
from vlx.recipes.build import task_preprocessing
from vlx.recipes.corpus import open_corpus
from vlx.recipes.data import log_datasets, open_datasets
from vlx.recipes.publish import finish, lineage_tags, measure, show
from vlx.recipes.requirements import check_distill


def main(cfg: DistillConfig, trial: tracking.Trial | None = None) -> float:
    """Teacher, student without distillation, distilled student. Returns the student's validation score."""
    check_distill(cfg)
    corpus = open_corpus(cfg)
    task = tasks.load(cfg.task, corpus.answers(cfg.task))
    stem = f"distill-{cfg.task}-{workspace.options_hash(cfg.as_dict(), corpus.fingerprint)}"
    title = f"{cfg.method}{' + reptile' if cfg.reptile else ''} on {cfg.task}, {cfg.student_layers}-layer student"
    with workspace.run_folder(Path(cfg.work_dir) / "runs", stem, resume=cfg.resume == "auto") as folder:
        description = cfg.description or distill.describe(cfg)
        with tracking.run(cfg, name=title, folder=folder, description=description, trial=trial) as run:
            teacher, result = distill.obtain_teacher(cfg, task, corpus)
            datasets = open_datasets(corpus, task, teacher.wordpiece, task_preprocessing(cfg, task, corpus), cfg)
            log_datasets(run, datasets)
            rows = [result or measure(teacher, datasets, title="teacher")]
            if cfg.baseline:
                rows.append(distill.train_baseline(cfg, task, datasets, teacher, run))
            rows.append(distill.train_student(cfg, task, datasets, teacher, run, lineage_tags(rows[0])))
            run.log_figure(tracking.comparison_figure(rows), "figures/comparison.png")
            run.log_figure(tracking.tradeoff_figure(rows, task.metric), "figures/size_and_latency.png")
        finish(folder, rows[-1])
    show(rows, run, title)
    return rows[-1].validation


if __name__ == "__main__":
    launch(main, DistillConfig)
