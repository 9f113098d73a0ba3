"""Score a model on a split.  mlflow run . -e evaluate -P model=models:/vlx-nlvr2-student@champion"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import EvaluateConfig, launch
from vlx.training import recipes, results


def main(cfg: EvaluateConfig) -> float:
    """Official scores, the official file, predictions and figures of one split. Returns the score that versions are
    compared by; not a number where labels are not published."""
    corpus = recipes.corpus_of(cfg)
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"evaluate-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"evaluate {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded, task = recipes.load_with_task(cfg.model, cfg.task, corpus)
        split = recipes.open_for(loaded, corpus, task, cfg)
        scores = results.score(run, loaded, split, task, stage=split.name)
        run.set_tags(results.about(cfg.model, split))
    logging.getLogger("vlx").info("%s on %s: %s", cfg.model, results.protocol(split), scores)
    return scores.get(task.metric, float("nan"))


if __name__ == "__main__":
    launch(main, EvaluateConfig)
