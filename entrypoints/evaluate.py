"""Score a model on a split.  mlflow run . -e evaluate -P model=models:/vlx-nlvr2-student@champion"""

import logging
from pathlib import Path

from vlx import tasks, tracking, workspace
from vlx.config import EvaluateConfig, launch
from vlx.training import recipes, results


def main(cfg: EvaluateConfig) -> float:
    """Official scores, the official file, predictions and figures of one split. Returns the accuracy."""
    task, corpus = tasks.load(cfg.task), recipes.corpus_of(cfg)
    with (
        workspace.claim(Path(cfg.work_dir) / "runs", f"evaluate-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"evaluate {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded = recipes.load_for(cfg.model, task, corpus)
        split = recipes.open_for(loaded, corpus, task, cfg.split or task.splits.test)
        scores = results.score(run, loaded, split, task)
        run.set_tags({"vlx.model": cfg.model, "vlx.split": split.name, "vlx.data_fingerprint": corpus.fingerprint})
    logging.getLogger("vlx").info("%s on %s: %s", cfg.model, split.name, scores)
    return scores["accuracy"]


if __name__ == "__main__":
    launch(main, EvaluateConfig)
