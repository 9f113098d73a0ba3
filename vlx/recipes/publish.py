"""From a trained model to what a researcher sees: scores, figures, predictions, a registered version, a table."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from vlx import checkpoints, tracking
from vlx.checkpoints import Loaded
from vlx.evaluation.compare import is_at_majority_baseline
from vlx.evaluation.cost import Cost, cost_of
from vlx.evaluation.predict import predict
from vlx.files import write_json
from vlx.inputs.dataset import TaskDataset, TaskDatasets
from vlx.training.loop import Best
from vlx.workspace import RESULT_FILE

log = logging.getLogger("vlx")
V = TypeVar("V")
TABLE_SCORES = 2  # scores in the table that ends a run, the main one first


@dataclass(frozen=True, kw_only=True)
class Result:
    """One model, measured. scores: of the test split; empty where its labels are not published. validation: the score
    by which the best step was chosen. latency: 0 if not measured. model: its folder or URI. version: None until the
    registry has been reached."""

    title: str
    scores: dict[str, float]
    validation: float
    parameters: int
    latency_ms: float = 0.0
    latency_p95_ms: float = 0.0
    flops: int = 0
    model: str
    run_id: str
    registered: str
    version: str | None
    warning: str = ""


def publish(
    run: tracking.Run, loaded: Loaded, *, role: str, registered: str, title: str, facts: Mapping[str, Any],
    scores: Mapping[str, float], step: int, warning: str = "",
) -> str | None:  # fmt: skip
    """Save and log the model with its card, and register it; facts become tags of the run and of the version. Returns
    the version; None: the server is away."""
    folder = checkpoints.save(run.folder / "model", loaded)
    preprocessing = loaded.preprocessing
    tags = {"task": preprocessing.task, "architecture": preprocessing.architecture, "role": role, **facts}
    tags |= {f"test/{name}": f"{value:.6f}" for name, value in scores.items()}
    if warning:
        tags["warning"] = warning
        run.set_tags({"mlflow.note.content": f"{title}. **Warning:** {warning}."})
    run.set_tags(prefixed("vlx", tags, separator="."))
    run.log_text(tracking.model_card(title, tags, warning), "model_card.md")
    run.log_model(folder, name=role, task=preprocessing.task, metrics=prefixed("test", scores), step=step)
    return run.register(registered, tags=tags)


def publish_task_model(
    run: tracking.Run, loaded: Loaded, datasets: TaskDatasets, best: Best, *, role: str, title: str,
    lineage: Mapping[str, str] | None = None,
) -> Result:  # fmt: skip
    """Score the best weights on the test split and register them as vlx-<task>-<role>; in a trial of a search, only
    size and speed are measured. lineage: further tags."""
    task = datasets.validation.task
    cost = cost_of(loaded.model, datasets.test)
    run.log_metrics(prefixed("model", cost._asdict()), step=best.step)
    measured: dict[str, Any] = {"title": title, "validation": best.value, "run_id": run.id, **cost._asdict()}
    if not run.publishes:
        return Result(scores={}, model=str(run.folder), registered="", version=None, **measured)
    scores = score(run, loaded, datasets.test, stage="test", step=best.step)
    warning = baseline_warning(datasets.validation, best.value)
    if scores and not warning:
        warning = baseline_warning(datasets.test, scores[task.metric])
    facts = {
        "split": datasets.validation.name,
        "data_fingerprint": datasets.test.corpus.fingerprint,
        "val_evaluation_protocol": evaluation_protocol(datasets.validation),
        "test_evaluation_protocol": evaluation_protocol(datasets.test),
        f"val/{task.metric}": f"{best.value:.6f}",
        **cost.as_text(),
        **(lineage or {}),
    }
    registered = f"vlx-{task.name.replace('+', 'plus')}-{role}"
    version = publish(
        run, loaded, role=role, registered=registered, title=f"{title} on {task.name}", facts=facts, scores=scores,
        step=best.step, warning=warning,
    )  # fmt: skip
    model = str(run.folder / "model")
    return Result(scores=scores, model=model, registered=registered, version=version, warning=warning, **measured)


def measure(loaded: Loaded, datasets: TaskDatasets, *, title: str) -> Result:
    """The result of a model that was trained elsewhere."""
    validation = datasets.validation.task.score(
        datasets.validation.examples, predict(loaded.model, datasets.validation)
    )
    test = datasets.test
    labeled = test.task.is_labeled(test.examples)
    scores = test.task.score(test.examples, predict(loaded.model, test)) if labeled else {}
    return Result(
        title=title, scores=scores, validation=validation[test.task.metric], model=loaded.uri, run_id="",
        registered=loaded.uri, version=None, **cost_of(loaded.model, test)._asdict(),
    )  # fmt: skip


def score(run: tracking.Run, loaded: Loaded, dataset: TaskDataset, *, stage: str, step: int = 0) -> dict[str, float]:
    """The official scores of a split as stage/score, logged with the submission file, predictions and figures. Where
    labels are not published there is the file to submit, and no score."""
    submission, probabilities, scores = submit(run, loaded, dataset)
    if not scores:
        log.info("%s has no published labels: %s is the file to submit.", dataset.name, submission)
        return {}
    task = dataset.task
    baseline = task.majority_baseline(dataset.examples)
    run.log_metrics(prefixed(stage, scores | {"majority_baseline": baseline}), step=step)
    rows = task.predictions(dataset.examples, probabilities)
    protocol = evaluation_protocol(dataset)
    for name, content in tracking.prediction_files(dataset.name, protocol, rows, dataset.corpus.image).items():
        run.log_text(content, name)
    for name, figure in tracking.prediction_figures(rows, baseline).items():
        run.log_figure(figure, f"figures/{name}.png")
    return scores


def submit(run: tracking.Run, loaded: Loaded, dataset: TaskDataset) -> tuple[Path, np.ndarray, dict[str, float]]:
    """The official submission file, checked to hold every id once; the probabilities; and, where labels are published,
    the scores that the file itself gives."""
    task = dataset.task
    probabilities = predict(loaded.model, dataset, folder=run.folder)
    path = task.write_submission(dataset.examples, probabilities, run.folder / f"{task.name}_{dataset.name}")
    run.log_artifact(path, to="predictions")
    file_scores = task.score_submission(dataset.examples, path)
    if not task.is_labeled(dataset.examples):
        return path, probabilities, {}
    scores = task.score(dataset.examples, probabilities)
    if file_scores != scores:
        raise RuntimeError(f"{path}: its scores {file_scores} are not the model's {scores}.")
    return path, probabilities, scores


def evaluation_protocol(dataset: TaskDataset) -> str:
    """What a score is over: corpus, split, counts and fingerprint."""
    counts = dataset.task.evaluation_protocol(dataset.examples, dataset.encoded)
    corpus = dataset.corpus
    return f"{corpus.path.name}/{dataset.name}: {counts}, fingerprint {corpus.fingerprint[:12]}"


def evaluation_tags(model: str, dataset: TaskDataset) -> dict[str, str]:
    """Tags of a run that scores a model on a split."""
    facts = {
        "model": model,
        "split": dataset.name,
        "evaluation_protocol": evaluation_protocol(dataset),
        "data_fingerprint": dataset.corpus.fingerprint,
    }
    return prefixed("vlx", facts, separator=".")


def prefixed(prefix: str, values: Mapping[str, V], *, separator: str = "/") -> dict[str, V]:
    return {f"{prefix}{separator}{name}": value for name, value in values.items()}


def baseline_warning(dataset: TaskDataset, value: float) -> str:
    """A line if a score is at the majority baseline; empty otherwise."""
    task = dataset.task
    baseline = task.majority_baseline(dataset.examples)
    if not is_at_majority_baseline(value, baseline, len(dataset)):
        return ""
    warning = f"at the majority baseline: {dataset.name} {task.metric} {value:.3f}, baseline {baseline:.3f}"
    log.warning("%s. The model has learned little from the images.", warning)
    return warning


def finish(folder: Path, result: Result) -> None:
    """Mark the run in this folder as finished."""
    write_json(folder / RESULT_FILE, asdict(result))


def read_result(folder: Path) -> Result | None:
    """The result of a finished run in this folder; None: it is not finished."""
    path = folder / RESULT_FILE
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def show(results: Sequence[Result], run: tracking.Run, title: str) -> None:
    """Print the table that ends a run, the registered version, and the links; nothing in a trial of a search."""
    if run.trial:
        return
    table = Table(title=title)
    names = list(dict.fromkeys(name for result in results for name in result.scores))[:TABLE_SCORES]
    for heading in ("", *names, "validation", "parameters", "latency"):
        table.add_column(heading, justify="right" if heading else "left")
    for result in results:
        numbers = [f"{result.scores[name]:.3f}" if name in result.scores else "" for name in names]
        latency = f"{result.latency_ms:.1f} ms" if result.latency_ms else ""
        table.add_row(result.title, *numbers, f"{result.validation:.3f}", f"{result.parameters:,}", latency)
    console = Console()
    console.print(table)
    last = results[-1]
    version = f"version {last.version}" if last.version else "not yet: the server is away; sync later"
    console.print(f"registered as {last.registered}, {version}")
    for result in results:
        if result.warning:
            console.print(f"{result.title}: {result.warning}")
    for link in tracking.links(run):
        console.print(link, soft_wrap=True)


def lineage_tags(teacher: Result) -> dict[str, str]:
    """The teacher with its scores and costs, as tags of its student's run and version."""
    uri = f"models:/{teacher.registered}/{teacher.version}" if teacher.version else teacher.registered
    is_version = uri.startswith("models:/") and "," not in uri
    tags = {
        "teacher": uri,
        "teacher_run": teacher.run_id,
        "teacher_version": uri.rpartition("/")[2] if is_version else "",
    }
    cost = Cost(teacher.parameters, teacher.flops, teacher.latency_ms, teacher.latency_p95_ms)
    facts = cost.as_text() | {f"test/{name}": f"{value:.6f}" for name, value in teacher.scores.items()}
    return tags | prefixed("teacher", facts)
