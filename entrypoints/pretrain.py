"""Pre-train a model on texts and pictures.  mlflow run . -e pretrain -P preset=lxmert-tiny"""

from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PretrainConfig, launch
from vlx.training import pretraining, recipes, results


def main(cfg: PretrainConfig, trial: tracking.Trial | None = None) -> float:
    """Returns the negative validation loss of the best step."""
    corpus = recipes.corpus_of(cfg)
    stem = f"pretrain-{cfg.model}-{workspace.options_hash(cfg.as_dict(), corpus.fingerprint)}"
    title = f"{cfg.model} pre-trained on {cfg.task}" + (
        f", {workspace.weights_label(cfg.weights)}" if cfg.weights else ""
    )
    with workspace.run_folder(Path(cfg.work_dir) / "runs", stem, resume=cfg.resume == "auto") as folder:
        with tracking.run(cfg, name=title, folder=folder, description=cfg.description, trial=trial) as run:
            result = pretraining.pretrain(cfg, corpus, run, title=title)
        results.finish(folder, result)
    results.show([result], run, title)
    return result.validation


if __name__ == "__main__":
    launch(main, PretrainConfig)
