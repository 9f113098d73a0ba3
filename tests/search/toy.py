"""A verb that trains nothing: its score is a formula of its options. As a script: a search of it, and its workers.

VLX_TOY names a fault, as "raise 2" in trial 2, or as "raise" in every trial: raise, nan, slow, stop (waits half-way to
be killed), meet (waits until a second trial runs).
"""

import math
import os
import time
from pathlib import Path

from vlx import search, tracking, workspace
from vlx.config import DistillConfig, SearchConfig, launch
from vlx.files import write_json
from vlx.preprocessing import Preprocessing
from vlx.search.study import Timing

STEPS = range(50, 501, 50)  # of evaluations, as search/spaces/distill.yaml sets them
QUICK = Timing(poll=0.1)


def quality(cfg: DistillConfig) -> float:
    """Best at alpha 0.7 and lr 1e-3; seeds differ by 0.01."""
    return 0.9 - (cfg.alpha - 0.7) ** 2 - 0.1 * (math.log10(cfg.lr) + 3) ** 2 - 0.01 * (cfg.seed % 2)


def main(cfg: DistillConfig, trial: tracking.Trial | None = None) -> float:
    number = trial.tags.get("vlx.trial", "") if trial else ""
    fault = os.environ.get("VLX_TOY", "").removesuffix(f" {number}")
    with workspace.run_folder(
        Path(cfg.work_dir) / "runs", f"toy-{workspace.options_hash(cfg.as_dict())}", resume=True
    ) as folder:
        with tracking.run(cfg, name="toy", folder=folder, description="", trial=trial) as run:
            checkpoint = folder / "training" / "step"  # a killed run resumes from it
            checkpoint.parent.mkdir(exist_ok=True)
            done = int(checkpoint.read_text()) if checkpoint.exists() else 0
            score = math.nan if fault == "nan" else 0.0
            for step in [step for step in STEPS if step > done]:
                run.log_metrics({"toy/step": step}, step=step)
                while fault == "meet" and len(list(folder.parent.glob("toy-*"))) < 2:
                    time.sleep(0.05)
                if fault == "raise" and step == 100:
                    raise ValueError("a bug in the verb")
                if fault == "stop" and step == 250 and not done:
                    (Path(cfg.work_dir) / "stopped").touch()
                    time.sleep(60)
                score = max(score, quality(cfg) * (1 - math.exp(-step / 100)))
                checkpoint.write_text(str(step))
                time.sleep(0.1 * (fault == "slow"))
                run.report(score, step=step, last=step == STEPS[-1])
            run.log_metrics({"model/latency_ms": 1 + cfg.temperature, "model/parameters": 100.0}, step=STEPS[-1])
            if trial and trial.publishes:
                publish(run, folder, score)
        write_json(folder / workspace.RESULT_FILE, {})
    return score


def publish(run: tracking.Run, folder: Path, score: float) -> None:
    model = folder / "model"
    model.mkdir()
    Preprocessing(architecture="oscar", max_text_tokens=16).save(model)
    run.log_model(model, name="student", task="nlvr2", metrics={"test/accuracy": score}, step=STEPS[-1])
    tags = {"task": "nlvr2", "split": "dev", "data_fingerprint": "f00d", "val/accuracy": f"{score:.6f}"}
    assert run.register("vlx-nlvr2-student", tags=tags) is None


def find(timing: Timing = QUICK, **options: object) -> float:
    """Search the toy verb with these options."""
    return search_toy(SearchConfig(**options), timing)


def search_toy(cfg: SearchConfig, timing: Timing = QUICK) -> float:
    return search.run(cfg, main, prepare=lambda base: base, script=Path(__file__), timing=timing)


if __name__ == "__main__":
    launch(search_toy, SearchConfig)
