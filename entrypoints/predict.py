"""Answer.  mlflow run . -e predict -P model=models:/vlx-vqa-model@champion -P text="What color is it?" -P images=42

Without a text: the submission file of a split.  mlflow run . -e predict -P task=vqa -P model=... -P split=test
"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PredictConfig, launch
from vlx.recipes.corpus import open_corpus
from vlx.recipes.data import open_for_evaluation
from vlx.recipes.predict import answer, load_with_task
from vlx.recipes.publish import evaluation_protocol, evaluation_tags, prefixed, submit

log = logging.getLogger("vlx")


def main(cfg: PredictConfig) -> list[tuple[str, float]] | Path:
    """The top-k answers to one text with their probabilities, or the path of a split's submission file."""
    if cfg.text:
        answers = answer(cfg)
        for text, probability in answers:
            log.info("%6.1f %%  %s", 100 * probability, text)
        return answers
    corpus = open_corpus(cfg)
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"predict-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"predict {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded, task = load_with_task(cfg.model, cfg.task, corpus)
        dataset = open_for_evaluation(loaded, corpus, task, cfg)
        path, _, scores = submit(run, loaded, dataset)
        run.log_metrics(prefixed(dataset.name, scores), step=0)
        run.set_tags(evaluation_tags(cfg.model, dataset))
    log.info("%s: %s; scores of the file: %s", path, evaluation_protocol(dataset), scores or "no published labels")
    return path


if __name__ == "__main__":
    launch(main, PredictConfig)
