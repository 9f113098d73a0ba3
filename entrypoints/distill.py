"""Distil a teacher.  mlflow run . -e distill -P task=nlvr2 -P method=mkd -P reptile=true"""

from pathlib import Path

from vlx import tasks, tracking, workspace
from vlx.config import DistillConfig, launch
from vlx.training import recipes, results
from vlx.training.batching import open_data


def main(cfg: DistillConfig, trial: tracking.Trial | None = None) -> float:
    """Teacher, student without distillation, distilled student. Returns the student's validation accuracy."""
    corpus = recipes.corpus_of(cfg)
    task = tasks.load(cfg.task, corpus.answers(cfg.task))
    stem = f"distill-{cfg.task}-{workspace.options_hash(cfg.as_dict(), corpus.fingerprint)}"
    title = f"{cfg.method}{' + reptile' if cfg.reptile else ''} on {cfg.task}, {cfg.student_layers}-layer student"
    with workspace.run_folder(Path(cfg.work_dir) / "runs", stem, resume=cfg.resume == "auto") as folder:
        about = cfg.description or recipes.describe(cfg)
        with tracking.run(cfg, name=title, folder=folder, description=about, trial=trial) as run:
            teacher, trained = recipes.obtain_teacher(cfg, task, corpus)
            data = open_data(corpus, task, teacher.words, cfg)
            recipes.log_inputs(run, data)
            rows = [trained or results.measure(teacher, data, task, title="teacher")]
            if cfg.baseline:
                rows.append(recipes.train_baseline(cfg, task, data, teacher, run))
            rows.append(recipes.train_student(cfg, task, data, teacher, run, results.lineage(rows[0])))
            run.log_figure(tracking.comparison_figure(rows), "figures/comparison.png")
            run.log_figure(tracking.tradeoff_figure(rows, task.metric), "figures/size_and_latency.png")
        results.finish(folder, rows[-1])
    results.show(rows, run, title)
    return rows[-1].validation


if __name__ == "__main__":
    launch(main, DistillConfig)
