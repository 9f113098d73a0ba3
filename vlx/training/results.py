"""From a trained model to what a researcher looks at: scores, figures, predictions, a version, a row of the table."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from vlx import checkpoints, tracking
from vlx.checkpoints import Loaded
from vlx.files import write_json
from vlx.tasks import Contrasting, Task
from vlx.training.batching import Data, Split
from vlx.training.evaluation import Cost, cost_of, is_at_chance, predict
from vlx.training.loop import Best
from vlx.workspace import RESULT_FILE

log = logging.getLogger("vlx")
V = TypeVar("V")
SHOWN = 2  # scores in the table that ends a run, the main one first


@dataclass(frozen=True)
class Result:
    """One model, measured. `version` is None until the registry has been reached."""

    title: str
    scores: dict[str, float]  # of the test split; none where its labels are not published
    validation: float  # the score by which the best step was chosen
    parameters: int
    latency_ms: float  # median; 0: not measured
    model: str  # its folder
    run_id: str
    registered: str
    version: str | None
    warning: str = ""
    flops: int = 0
    latency_p95_ms: float = 0.0


def publish(
    run: tracking.Run, loaded: Loaded, data: Data, task: Task, best: Best,
    *, role: str, title: str, tags: dict[str, str],
) -> Result:  # fmt: skip
    """Score the best weights on the test split, log all about them, register them as vlx-<task>-<role>.

    Of a search's trial only size and speed.
    """
    cost = cost_of(loaded.model, data.test)._asdict()
    run.log_metrics(prefixed("model", cost), step=best.step)
    if not run.publishes:
        return Result(title, {}, best.value, model=str(run.folder), run_id=run.id, registered="", version=None, **cost)
    folder = checkpoints.save(run.folder / "model", loaded.model, loaded.tokenizer, loaded.meta)
    scores = score(run, loaded, data.test, task, stage="test", step=best.step)
    warning = chance_warning(task, data.validation, best.value)
    warning = warning or (chance_warning(task, data.test, scores[task.metric]) if scores else "")
    facts = {
        "task": task.name,
        "system": loaded.meta["system"],
        "role": role,
        "split": data.validation.name,
        "data_fingerprint": data.test.corpus.fingerprint,
        "val_protocol": protocol(data.validation),
        "test_protocol": protocol(data.test),
        f"val/{task.metric}": f"{best.value:.6f}",
        **{f"test/{name}": f"{value:.6f}" for name, value in scores.items()},
        **in_words(cost),
        **({"warning": warning} if warning else {}),
        **tags,
    }
    run.set_tags({f"vlx.{name}": value for name, value in facts.items()})
    if warning:
        run.set_tags({"mlflow.note.content": f"{title} on {task.name}. **Warning:** {warning}."})
    run.log_text(tracking.model_card(f"{title} on {task.name}", facts, warning), "model_card.md")
    run.log_model(folder, name=role, task=task.name, metrics=prefixed("test", scores), step=best.step)
    name = f"vlx-{task.name.replace('+', 'plus')}-{role}"
    version = run.register(name, tags=facts)
    return Result(
        title, scores, best.value, model=str(folder), run_id=run.id, registered=name, version=version, warning=warning,
        **cost,
    )  # fmt: skip


def measure(loaded: Loaded, data: Data, task: Task, *, title: str) -> Result:
    """The row of a model that was trained elsewhere."""
    validation = task.score(data.validation.examples, predict(loaded.model, data.validation, task))[task.metric]
    labelled = task.labelled(data.test.examples)
    scores = task.score(data.test.examples, predict(loaded.model, data.test, task)) if labelled else {}
    cost, uri = cost_of(loaded.model, data.test)._asdict(), loaded.meta["uri"]
    return Result(title, scores, validation, model=uri, run_id="", registered=uri, version=None, **cost)


def score(
    run: tracking.Run, loaded: Loaded, split: Split, task: Task, *, stage: str, step: int = 0
) -> dict[str, float]:
    """The official scores of a split as stage/score, logged with the official file, the predictions with pictures, and
    the figures. Where labels are not published there is the file to submit, and no score."""
    submission, probabilities, scores = submit(run, loaded, split, task)
    if not scores:
        log.info("%s has no published labels: %s is the file to submit.", split.name, submission)
        return {}
    run.log_metrics(prefixed(stage, scores | {"chance": task.chance_level(split.examples)}), step=step)
    rows = task.predictions(split.examples, probabilities)
    for name, content in tracking.prediction_files(split.name, protocol(split), rows, split.corpus.image).items():
        run.log_text(content, name)
    for name, figure in tracking.prediction_figures(rows, task.chance_level(split.examples)).items():
        run.log_figure(figure, f"figures/{name}.png")
    return scores


def submit(run: tracking.Run, loaded: Loaded, split: Split, task: Task) -> tuple[Path, np.ndarray, dict[str, float]]:
    """The official file, checked to hold every id once; the probabilities; and, where labels are published, the scores
    that the file itself gives."""
    probabilities = predict(loaded.model, split, task, kept=run.folder)
    path = task.write_submission(split.examples, probabilities, run.folder / f"{task.name}_{split.name}")
    run.log_artifact(path, to="predictions")
    again = task.rescore(split.examples, path)
    if not task.labelled(split.examples):
        return path, probabilities, {}
    scores = task.score(split.examples, probabilities)
    if again != scores:
        raise RuntimeError(f"{path}: its scores {again} are not the model's {scores}.")
    return path, probabilities, scores


def protocol(split: Split) -> str:
    """What a score of this split is over: split, count and fingerprint."""
    counts, task = f"{len(split):,} examples", split.task
    if isinstance(task, Contrasting):
        asked, pictures = task.asked(split.examples), len({row.image_ids for row in split.encoded})
        pairs = f"all pairs with {pictures:,} pictures" if asked is None else f"{asked.sum():,} listed pairs"
        counts = f"{len(split):,} captions, {pairs}"
    return f"{split.corpus.path.name}/{split.name}: {counts}, fingerprint {split.corpus.fingerprint[:12]}"


def about(model: str, split: Split) -> dict[str, str]:
    """Tags of a run that scores a model on a split."""
    facts = {"model": model, "split": split.name, "protocol": protocol(split)}
    return {f"vlx.{name}": value for name, value in (facts | {"data_fingerprint": split.corpus.fingerprint}).items()}


def prefixed(stage: str, scores: dict[str, V]) -> dict[str, V]:
    return {f"{stage}/{name}": value for name, value in scores.items()}


def chance_warning(task: Task, split: Split, value: float) -> str:
    """A line if the model does no better than always giving one answer; empty otherwise."""
    chance = task.chance_level(split.examples)
    if not is_at_chance(value, chance, len(split)):
        return ""
    known = f"without a look {chance:.3f}"
    warning = f"at chance level: {split.name} {task.metric} {value:.3f}, {known}"
    log.warning("%s. The model has learnt little from the pictures.", warning)
    return warning


def finish(folder: Path, result: Result) -> None:
    """Mark the run in this folder as finished."""
    write_json(folder / RESULT_FILE, asdict(result))


def read_result(folder: Path) -> Result | None:
    """The result of a finished run in this folder."""
    path = folder / RESULT_FILE
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def show(results: Sequence[Result], run: tracking.Run, title: str) -> None:
    """The table that ends a run, the registered version, and where to look; of a trial its search tells."""
    if run.trial:
        return
    table = Table(title=title)
    names = list(dict.fromkeys(name for result in results for name in result.scores))[:SHOWN]
    for heading in ("", *names, "validation", "parameters", "latency"):
        table.add_column(heading, justify="left" if not heading else "right")
    for result in results:
        numbers = (f"{result.scores[name]:.3f}" if name in result.scores else "" for name in names)
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


def lineage(teacher: Result) -> dict[str, str]:
    """Whose student this is, and what the teacher scores and costs: tags of its run and version."""
    uri = f"models:/{teacher.registered}/{teacher.version}" if teacher.version else teacher.registered
    version = uri.rpartition("/")[2] if uri.startswith("models:/") and "," not in uri else ""
    told = {"teacher": uri, "teacher_run": teacher.run_id, "teacher_version": version}
    known = in_words({name: getattr(teacher, name) for name in Cost._fields})
    known |= {f"test/{name}": f"{value:.6f}" for name, value in teacher.scores.items()}
    return told | prefixed("teacher", known)


def in_words(cost: dict[str, Any]) -> dict[str, str]:
    """Counts as they are, milliseconds to the hundredth."""
    return {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in cost.items()}
