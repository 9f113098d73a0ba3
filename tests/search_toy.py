"""A verb that trains nothing: its score is a formula of its options. As a script: a search of it, and its workers.

VLX_TOY names what goes wrong, as "raise 2" of trial 2, or as "raise" of all: raise, nan, slow, stop (half-way, to
be killed).
"""

import math
import os
import time
from pathlib import Path

from vlx import files, search, tracking, workspace
from vlx.config import DistillConfig, SearchConfig, launch

STEPS = range(50, 501, 50)  # of evaluations, as spaces/distill.yaml asks for


def quality(cfg: DistillConfig) -> float:
    """Best at alpha 0.7 and lr 1e-3; one seed is as good as another to 0.01."""
    return 0.9 - (cfg.alpha - 0.7) ** 2 - 0.1 * (math.log10(cfg.lr) + 3) ** 2 - 0.01 * (cfg.seed % 2)


def main(cfg: DistillConfig, trial: tracking.Trial | None = None) -> float:
    number = trial.tags.get("vlx.trial", "") if trial else ""
    fault = os.environ.get("VLX_TOY", "").removesuffix(f" {number}")
    with workspace.run_folder(
        Path(cfg.work_dir) / "runs", f"toy-{workspace.options_hash(cfg.as_dict())}", resume=True
    ) as folder:
        with tracking.run(cfg, name="toy", folder=folder, description="", trial=trial) as run:
            place = folder / "training" / "step"  # of a "checkpoint": a run that was killed goes on from it
            place.parent.mkdir(exist_ok=True)
            done = int(place.read_text()) if place.exists() else 0
            score = math.nan if fault == "nan" else 0.0
            for step in [step for step in STEPS if step > done]:
                run.log_metrics({"toy/step": step}, step=step)
                if fault == "raise" and step == 100:
                    raise ValueError("a bug in the verb")
                if fault == "stop" and step == 250 and not done:
                    (Path(cfg.work_dir) / "stopped").touch()
                    time.sleep(60)
                score = max(score, quality(cfg) * (1 - math.exp(-step / 100)))
                place.write_text(str(step))
                time.sleep(0.1 * (fault == "slow"))
                run.report(score, step=step, last=step == STEPS[-1])
            run.log_metrics({"model/latency_ms": 1 + cfg.temperature, "model/parameters": 100.0}, step=STEPS[-1])
            if trial and trial.publishes:
                publish(run, folder, score)
        files.write_json(folder / workspace.RESULT_FILE, {})
    return score


def publish(run: tracking.Run, folder: Path, score: float) -> None:
    model = folder / "model"
    model.mkdir()
    (model / "vlx.json").write_text('{"num_images": 1}')
    run.log_model(model, name="student", task="nlvr2", metrics={"test/accuracy": score}, step=STEPS[-1])
    facts = {"task": "nlvr2", "split": "dev", "data_fingerprint": "f00d", "val/accuracy": f"{score:.6f}"}
    assert run.register("vlx-nlvr2-student", tags=facts) is None


def find(**options: object) -> float:
    return search.run(SearchConfig(**options), main, prepare=lambda base: base, script=Path(__file__))


if __name__ == "__main__":
    launch(lambda cfg: search.run(cfg, main, prepare=lambda base: base, script=Path(__file__)), SearchConfig)
