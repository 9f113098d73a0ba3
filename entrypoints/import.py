"""Register an original checkpoint.  mlflow run . -e import -P model=lxmert -P weights=FILE -P task=vqa -P answers=F"""

import logging
from dataclasses import asdict
from pathlib import Path

from vlx import checkpoints, tracking, workspace
from vlx.config import ImportConfig, launch
from vlx.files import write_json


def main(cfg: ImportConfig) -> str | None:
    """Load it whole or not at all, log its load report, register it. Returns the version; None: the server is away."""
    loaded, sha256 = checkpoints.load_original(cfg), checkpoints.digest(Path(cfg.weights))
    name = cfg.name or f"vlx-{cfg.model.replace('_', '-')}-original"
    with (
        workspace.run_folder(Path(cfg.work_dir) / "runs", f"import-{cfg.model}", resume=False) as folder,
        tracking.run(cfg, name=f"import {name}", folder=folder, description=cfg.description) as run,
    ):
        saved = checkpoints.save(run.folder / "model", loaded)
        write_json(run.folder / "load_report.json", asdict(loaded.report))
        run.log_artifact(run.folder / "load_report.json")
        tags = {"architecture": cfg.model, "task": cfg.task, "role": "original", "source_sha256": sha256}
        run.set_tags({f"vlx.{key}": value for key, value in tags.items()})
        run.log_text(tracking.model_card(f"{name}, from {Path(cfg.weights).name}", tags), "model_card.md")
        share = {"load/share": loaded.report.share, "load/parameters": float(loaded.model.num_parameters())}
        run.log_model(saved, name="original", task=cfg.task, metrics=share, step=0)
        version = run.register(name, tags=tags | {"load_report": loaded.report.summary()})
    logging.getLogger("vlx").info("registered as %s, version %s", name, version or "not yet: the server is away")
    return version


if __name__ == "__main__":
    launch(main, ImportConfig)
