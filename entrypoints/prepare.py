"""Official files -> a corpus.  mlflow run . -e prepare -P task=nlvr -P source=FOLDER"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PrepareConfig, launch
from vlx.training import recipes


def main(cfg: PrepareConfig) -> str:
    """Prepare the corpus once and log what is in it. Returns its fingerprint."""
    corpus = recipes.corpus_of(cfg, cfg.work_dir)
    with (
        workspace.claim(Path(cfg.work_dir) / "runs", f"prepare-{corpus.path.name}", resume=False) as folder,
        tracking.run(cfg, name=f"prepare {corpus.path.name}", folder=folder, description=cfg.description) as run,
    ):
        counts = {split: len(corpus.examples(cfg.task, split)) for split in corpus.splits(cfg.task)}
        run.log_metrics({f"corpus/{split}": float(count) for split, count in counts.items()}, step=0)
        run.log_artifact(corpus.path / "manifest.json")
        run.set_tags({"vlx.data_fingerprint": corpus.fingerprint})
    logging.getLogger("vlx").info("%s: %s, fingerprint %s", corpus.path, counts, corpus.fingerprint)
    return corpus.fingerprint


if __name__ == "__main__":
    launch(main, PrepareConfig)
