"""Answer.  mlflow run . -e predict -P model=models:/vlx-vqa-model@champion -P text="What color is it?" -P images=42

Without a text: the submission file of a split.  mlflow run . -e predict -P task=vqa -P model=... -P split=test
"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PredictConfig, launch
from vlx.training import answering, recipes, results

log = logging.getLogger("vlx")


def main(cfg: PredictConfig) -> list[tuple[str, float]] | Path:
    """The likeliest answers to one text with their probabilities, or the path of a split's submission file."""
    if cfg.text:
        answers = answering.answer(cfg)
        for answer, score in answers:
            log.info("%6.1f %%  %s", 100 * score, answer)
        return answers
    corpus = recipes.corpus_of(cfg)
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"predict-{cfg.task}", resume=False) as folder,
        tracking.run(cfg, name=f"predict {cfg.model}", folder=folder, description=cfg.description) as run,
    ):
        loaded, task = recipes.load_with_task(cfg.model, cfg.task, corpus)
        split = recipes.open_for(loaded, corpus, task, cfg)
        path, _, scores = results.submit(run, loaded, split, task)
        run.log_metrics(results.prefixed(split.name, scores), step=0)
        run.set_tags(results.about(cfg.model, split))
    log.info("%s: %s; scored from the file: %s", path, results.protocol(split), scores or "labels are not published")
    return path


if __name__ == "__main__":
    launch(main, PredictConfig)
