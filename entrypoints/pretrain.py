"""Pre-train a model on texts and images.  mlflow run . -e pretrain -P preset=lxmert-tiny"""

from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PretrainConfig, launch
from vlx.recipes.corpus import open_corpus
from vlx.recipes.pretrain import pretrain
from vlx.recipes.publish import finish, show
from vlx.recipes.requirements import check_pretrain


def main(cfg: PretrainConfig, trial: tracking.Trial | None = None) -> float:
    """Returns the negative validation loss of the best step."""
    check_pretrain(cfg)
    corpus = open_corpus(cfg)
    stem = f"pretrain-{cfg.model}-{workspace.options_hash(cfg.as_dict(), corpus.fingerprint)}"
    start = f", {workspace.weights_label(cfg.weights)}" if cfg.weights else ""
    title = f"{cfg.model} pre-trained on {cfg.task}{start}"
    with workspace.run_folder(Path(cfg.work_dir) / "runs", stem, resume=cfg.resume == "auto") as folder:
        with tracking.run(cfg, name=title, folder=folder, description=cfg.description, trial=trial) as run:
            result = pretrain(cfg, corpus, run, title=title)
        finish(folder, result)
    show([result], run, title)
    return result.validation


if __name__ == "__main__":
    launch(main, PretrainConfig)
