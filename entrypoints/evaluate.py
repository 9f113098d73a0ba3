"""Score a model on a split.  mlflow run . -e evaluate -P model=models:/vlx-nlvr2-student@champion"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import EvaluateConfig, launch
from vlx.recipes.corpus import open_corpus
from vlx.recipes.data import open_for_evaluation
from vlx.recipes.predict import load_with_task
from vlx.recipes.publish import evaluation_protocol, evaluation_tags, score


def main(cfg: EvaluateConfig) -> float:
    """Official scores, submission file, predictions and figures of a split. Returns the task's metric; nan where labels
    are not published."""
    corpus = open_corpus(cfg)
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"evaluate-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"evaluate {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded, task = load_with_task(cfg.model, cfg.task, corpus)
        dataset = open_for_evaluation(loaded, corpus, task, cfg)
        scores = score(run, loaded, dataset, stage=dataset.name)
        run.set_tags(evaluation_tags(cfg.model, dataset))
    logging.getLogger("vlx").info("%s on %s: %s", cfg.model, evaluation_protocol(dataset), scores)
    return scores.get(task.metric, float("nan"))


if __name__ == "__main__":
    launch(main, EvaluateConfig)
