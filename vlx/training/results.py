"""From a trained model to what a researcher looks at: scores, figures, predictions, a model version, a row of the table."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vlx import checkpoints, tracking
from vlx.checkpoints import Loaded
from vlx.tasks import Task
from vlx.training.batching import Data, Split
from vlx.training.evaluation import is_at_chance, latency_ms, parameters, predict
from vlx.training.loop import Best
from vlx.workspace import RESULT

log = logging.getLogger("vlx")


@dataclass(frozen=True)
class Result:
    """One model, measured. `version` is None until the registry has been reached."""

    title: str
    scores: dict[str, float]  # of the test split
    validation: float  # accuracy by which the best step was chosen
    parameters: int
    latency_ms: float
    model: str  # its folder
    run_id: str
    registered: str
    version: str | None


def publish(
    run: tracking.Run, loaded: Loaded, data: Data, task: Task, best: Best, *, role: str, title: str, tags: dict[str, str]
) -> Result:
    """Score the best weights on the test split, log everything about them, register them."""
    folder = checkpoints.save(run.folder / "model", loaded.model, loaded.tokenizer, loaded.meta)
    probabilities = predict(loaded.model, data.test)
    scores = task.score(data.test.examples, probabilities)
    size, latency = parameters(loaded.model), latency_ms(loaded.model, data.test)
    run.log_metrics({f"test/{name}": value for name, value in scores.items()}, step=best.step)
    run.log_metrics({"model/parameters": float(size), "model/latency_ms": latency}, step=best.step)
    log_predictions(run, task, data.test, probabilities)
    warning = chance_warning(task, data.validation, best.value)
    facts = {
        "task": task.name,
        "system": loaded.meta["system"],
        "role": role,
        "split": data.validation.name,
        "data_fingerprint": data.test.corpus.fingerprint,
        "val/accuracy": f"{best.value:.6f}",
        **{f"test/{name}": f"{value:.6f}" for name, value in scores.items()},
        **tags,
        **({"warning": warning} if warning else {}),
    }
    run.set_tags({f"vlx.{name}": value for name, value in facts.items()})
    run.log_text(tracking.model_card(f"{title} on {task.name}", facts, warning), "model_card.md")
    registered = f"vlx-{task.name}-{role}"
    run.log_model(folder, name=role, task=task.name, metrics={f"test/{name}": value for name, value in scores.items()}, step=best.step)
    version = run.register(registered, tags=facts)
    result = Result(title, scores, best.value, size, latency, str(folder), run.id, registered, version)
    write_result(run.folder, result)
    return result


def measure(loaded: Loaded, data: Data, task: Task, *, title: str) -> Result:
    """The row of a model that was trained elsewhere."""
    validation = task.score(data.validation.examples, predict(loaded.model, data.validation))["accuracy"]
    scores = task.score(data.test.examples, predict(loaded.model, data.test))
    size, latency = parameters(loaded.model), latency_ms(loaded.model, data.test)
    return Result(title, scores, validation, size, latency, loaded.meta["uri"], "", loaded.meta["uri"], None)


def log_predictions(run: tracking.Run, task: Task, split: Split, probabilities: np.ndarray) -> None:
    """The official file, the table with pictures, and the figures of a split."""
    submission = run.folder / f"{task.name}_{split.name}.csv"
    task.write_submission(split.examples, probabilities, submission)
    run.log_artifact(submission, to="predictions")
    rows = task.predictions(split.examples, probabilities)
    for name, content in tracking.prediction_files(split.name, rows, split.corpus.image).items():
        run.log_text(content, name)
    chance = task.chance_level(split.examples)
    for name, figure in tracking.prediction_figures(rows, chance).items():
        run.log_figure(figure, f"figures/{name}.png")


def chance_warning(task: Task, split: Split, accuracy: float) -> str:
    """A line if the model does no better than always giving one answer; empty otherwise."""
    chance = task.chance_level(split.examples)
    if not is_at_chance(accuracy, chance, len(split)):
        return ""
    warning = f"at chance level: {split.name} accuracy {accuracy:.3f}, always giving the more frequent answer {chance:.3f}"
    log.warning("%s. The model has learnt little from the pictures.", warning)
    return warning


def write_result(folder: Path, result: Result) -> None:
    partial = folder / f".{RESULT}.{os.getpid()}"
    partial.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    os.replace(partial, folder / RESULT)


def read_result(folder: Path) -> Result | None:
    """The result of a finished run in this folder."""
    path = folder / RESULT
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def show(results: Sequence[Result], run: tracking.Run, title: str) -> None:
    """The table that ends a run, the registered version, and where to look."""
    table = Table(title=title)
    for heading in ("", "accuracy", "consistency", "parameters", "latency"):
        table.add_column(heading, justify="left" if not heading else "right")
    for result in results:
        numbers = (f"{result.scores[name]:.3f}" for name in ("accuracy", "consistency"))
        table.add_row(result.title, *numbers, f"{result.parameters:,}", f"{result.latency_ms:.1f} ms")
    console = Console()
    console.print(table)
    last = results[-1]
    version = f"version {last.version}" if last.version else "not yet: the tracking server is away; run the entry point sync later"
    console.print(f"registered as {last.registered}, {version}")
    for link in tracking.links(run):
        console.print(link, soft_wrap=True)


def as_tags(result: Result, uri: str) -> dict[str, Any]:
    """Lineage: whose student this is."""
    return {"teacher": uri, "teacher_run": result.run_id, "teacher_version": result.version or ""}
