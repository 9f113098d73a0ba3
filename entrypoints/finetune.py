"""Train one model on one task.  mlflow run . -e finetune -P task=nlvr2 -P weights=FOLDER"""

from pathlib import Path

from vlx import tasks, tracking, workspace
from vlx.config import FinetuneConfig, launch
from vlx.recipes.corpus import open_corpus
from vlx.recipes.finetune import finetune
from vlx.recipes.publish import finish, show
from vlx.recipes.requirements import check_finetune


def main(cfg: FinetuneConfig, trial: tracking.Trial | None = None) -> float:
    """Returns the validation score of the best step."""
    check_finetune(cfg)
    corpus = open_corpus(cfg)
    task = tasks.load(cfg.task, corpus.answers(cfg.task), loss=cfg.loss, itm_negatives=cfg.itm_negatives)
    stem = f"finetune-{cfg.task}-{workspace.options_hash(cfg.as_dict(), corpus.fingerprint)}"
    start = workspace.weights_label(cfg.weights) if cfg.weights else f"{cfg.layers} layers"
    title = f"{cfg.model} on {cfg.task}, {start}"
    with workspace.run_folder(Path(cfg.work_dir) / "runs", stem, resume=cfg.resume == "auto") as folder:
        with tracking.run(cfg, name=title, folder=folder, description=cfg.description, trial=trial) as run:
            result = finetune(cfg, task, corpus, run, title=cfg.role)
        finish(folder, result)
    show([result], run, title)
    return result.validation


if __name__ == "__main__":
    launch(main, FinetuneConfig)
