"""Official files -> a corpus.  mlflow run . -e prepare -P format=vqa -P source=FOLDER -P out=FOLDER -P check=true"""

import logging
from pathlib import Path

from vlx import tracking, workspace
from vlx.config import PrepareConfig, launch
from vlx.corpora import validate
from vlx.errors import CorpusError
from vlx.recipes.corpus import prepare_corpus

log = logging.getLogger("vlx")


def main(cfg: PrepareConfig) -> str:
    """Prepare a corpus, log its counts and, with check, its faults. Returns its fingerprint. Raises CorpusError."""
    corpus = prepare_corpus(cfg)
    examples = corpus.manifest["examples"]
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"prepare-{corpus.path.name}", resume=False) as folder,
        tracking.run(cfg, name=f"prepare {corpus.path.name}", folder=folder, description=cfg.description) as run,
    ):
        counts = {f"corpus/{task}/{split}": count for task in examples for split, count in examples[task].items()}
        counts |= {f"corpus/{name}": corpus.manifest[name] for name in ("images", "regions", "region_dim")}
        run.log_metrics({name: float(count) for name, count in counts.items()}, step=0)
        run.log_artifact(corpus.path / "manifest.json")
        run.set_tags({"vlx.data_fingerprint": corpus.fingerprint})
        for title, figure in tracking.histogram_figures(validate.histograms(corpus)).items():
            run.log_figure(figure, f"figures/{title.replace(' ', '_')}.png")
        findings = validate.validate(corpus) if cfg.check else []
        if cfg.check:
            report = validate.table(findings, corpus)
            run.log_text(report, "validation.txt")
            log.info("%s", report)
    log.info("%s: %s, fingerprint %s", corpus.path, examples, corpus.fingerprint)
    if findings and findings[0].serious:
        worst = f"{findings[0].what}: {findings[0].times:,}, first {findings[0].first[0]}"
        raise CorpusError(f"{corpus.path}: {worst}. Correct the source and prepare it again.")
    return corpus.fingerprint


if __name__ == "__main__":
    launch(main, PrepareConfig)
