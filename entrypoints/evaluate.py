"""Score a model on a split.  mlflow run . -e evaluate -P model=models:/vlx-nlvr2-student@champion"""

from pathlib import Path

from vlx import corpora, tasks, tracking, workspace
from vlx.config import EvaluateConfig, launch
from vlx.training import recipes, results


def main(cfg: EvaluateConfig) -> float:
    """Official scores, the official file, predictions and figures of one split. Returns the accuracy."""
    task, corpus = tasks.load(cfg.task), corpora.of(cfg)
    with (
        workspace.claim(Path(cfg.work_dir) / "runs", f"evaluate-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"evaluate {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded = recipes.load_for(cfg.model, task, corpus)
        result = results.evaluate(run, loaded, corpus, task, split=cfg.split or task.splits.test, batch_size=cfg.batch_size)
    results.show([result], run, f"{cfg.model} on {cfg.split or task.splits.test}")
    return result.scores["accuracy"]


if __name__ == "__main__":
    launch(main, EvaluateConfig)
