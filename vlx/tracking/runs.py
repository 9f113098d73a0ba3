"""A run: its operations and its ending are written to its journal, which is sent to MLflow."""

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure

from vlx import __version__
from vlx.errors import UserError
from vlx.tracking import registry, store
from vlx.tracking.journal import JOURNAL_FILE, Journal, Operation, Uploader, read, read_state
from vlx.tracking.project import EXPERIMENT
from vlx.tracking.sender import Sender
from vlx.tracking.stop import Pruned, StopSignals, status_of

log = logging.getLogger("vlx")
CONNECT_SECONDS = 20.0  # how long a run waits at its start for the server and its MLflow id
SEND_SECONDS = 600.0  # for a slow server; a dead one is left after a few attempts
PARAM_CHARACTERS = 500
ERROR_CHARACTERS = 500
TRIAL_STATES = {"FINISHED": "complete", "KILLED": "killed", "FAILED": "failed"}
REFUSED_CHARACTERS = re.compile(r"[^\w./ :-]")  # by MLflow, in names of metrics, params and tags


@dataclass
class Trial:
    """One trial of a search: its settings for the run, and the results that the search reads.

    report: takes the best validation score, the step, and whether it is the last step; raises Pruned to end the run.
    """

    parent: str  # uuid of the search's run
    name: str
    tags: dict[str, Any]
    report: Callable[[float, int, bool], None]
    publishes: bool = False  # the model is tested and logged, as without a search
    run: "Run | None" = None
    metrics: dict[str, float] = field(default_factory=dict)  # the last value of each
    candidate: tuple[str, dict[str, Any]] | None = None  # name and tags with which the model would have been registered


class Run:
    """An open run. Nothing here raises because of a server; only `register` waits for it."""

    def __init__(self, folder: Path, name: str, *, trial: Trial | None = None, parent: "Run | None" = None) -> None:
        self.folder = folder
        self.name = name
        self.assigned_trial = trial  # None in a child run of a trial
        self.trial: Trial | None = trial or (parent.trial if parent else None)
        self.uri = store.tracking_uri()
        self.journal = Journal(folder)
        self.uploader = uploader_for(self.journal, self.uri)
        self.stop = StopSignals()
        operations = [operation for operation, _ in read(self.journal.path, 0)]
        earlier = last_uuid(operations, "create")
        self.resumed = bool(earlier)
        self.uuid = earlier or uuid.uuid4().hex
        self.model = last_uuid(operations, "model")  # the model last logged
        if trial:
            trial.run = self

    @property
    def id(self) -> str:
        """The MLflow id; until the server has been reached, the journal's uuid."""
        return self.uploader.state.run_id or self.uuid

    @property
    def publishes(self) -> bool:
        """Whether the model is tested and logged; False in a search's trials, which must not use the test split."""
        return not self.trial or self.trial.publishes

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        """Log one value a name and step; a repeated one, of a resumed run, is dropped. nan stays; MLflow caps inf."""
        self.journal.append_metrics({clean(key): float(value) for key, value in metrics.items()}, int(step))
        if self.assigned_trial:
            self.assigned_trial.metrics.update(metrics)

    def report(self, best: float, *, step: int, last: bool) -> None:
        """Report the best validation score so far, after an evaluation. Raises Pruned if the search ends the trial."""
        if self.assigned_trial:
            self.assigned_trial.report(best, step, last)

    def set_tags(self, tags: dict[str, Any]) -> None:
        self.journal.append("tags", tags=as_text(tags))

    def log_artifact(self, path: Path | str, to: str = "") -> None:
        """Log a file or folder into the artifact folder `to`. It must stay on disk until it is sent."""
        if not Path(path).exists():
            raise FileNotFoundError(path)
        self.journal.append("artifact", path=os.path.relpath(path, self.folder), to=to)

    def log_text(self, text: str, to: str) -> None:
        """Log a text as an artifact at the path `to`. MLflow shows the last one that ends in .table.json as a table."""
        self.log_bytes(text.encode(), to)
        if to.endswith(".table.json"):
            self.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": to, "type": "table"}])})

    def log_figure(self, figure: Figure, to: str) -> None:
        figure.savefig(buffer := BytesIO(), dpi=120)
        self.log_bytes(buffer.getvalue(), to)

    def log_bytes(self, content: bytes, to: str) -> None:
        path = self.folder / "artifacts" / to
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.log_artifact(path, os.path.dirname(to))

    def log_input(self, *, name: str, digest: str, source: Path | str, context: str, profile: dict[str, Any]) -> None:
        """Log the data of a run. digest: at most 36 characters; context: train, validation or test."""
        fields = {"name": name, "digest": digest[:36], "source": str(source), "context": context, "profile": profile}
        self.journal.append("input", uuid=self.operation_id(fields), **fields)

    def log_model(self, folder: Path, *, name: str, task: str, metrics: dict[str, float], step: int) -> None:
        """Log a saved vlx model folder as an MLflow model. `folder` must stay on disk until it is sent."""
        self.log_metrics(metrics, step=step)
        content = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        self.model = self.operation_id({"name": name, "step": step, "content": content})
        self.journal.append(
            "model",
            uuid=self.model,
            metrics=[clean(key) for key in metrics],
            path=os.path.relpath(folder, self.folder),
            name=name,
            task=task,
            step=step,
        )

    def register(self, name: str, *, tags: dict[str, Any]) -> str | None:
        """Register the model last logged; return its version, or None if the server is away (sync does it later).

        A trial registers nothing: its model becomes the trial's candidate, which the search may register.
        """
        registry.check_name(name)
        if self.assigned_trial:
            self.assigned_trial.candidate = (name, tags)
        if self.trial:
            return None
        if not self.model:
            raise RuntimeError("register: no model was logged in this run; call log_model first.")
        request = self.operation_id({"register": name, "model": self.model})
        self.journal.append("register", uuid=request, model=self.model, name=name, tags=as_text(tags))
        self.uploader.flush(SEND_SECONDS)
        return self.uploader.state.results.get(request)

    def operation_id(self, fields: dict[str, Any]) -> str:
        """Return an id of the run's uuid and the fields: a resumed run that repeats an operation adds nothing."""
        return uuid.uuid5(uuid.UUID(self.uuid), json.dumps(fields, sort_keys=True, default=str)).hex

    def stop_if_requested(self, save: Callable[[], None]) -> None:
        """Call at each step: after a signal, call `save` and end the run."""
        self.stop.poll(save)

    def begin(self, cfg: Any, *, tags: dict[str, Any], parent: str, launcher_run_id: str) -> None:
        """Write the first operations, and wait a moment for the server."""
        tags = as_text(tags | store.process_tags() | code_version())
        if self.resumed:
            self.set_tags(tags | {"vlx.error": ""})
            self.journal.append("resume", launcher_run_id=launcher_run_id, name=self.name)
        else:
            self.journal.append(
                "create",
                uuid=self.uuid,
                tags=tags | source_tags(),
                name=self.name,
                launcher_run_id=launcher_run_id,
                parent=parent,
                experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or EXPERIMENT,
                experiment_id=os.environ.get("MLFLOW_EXPERIMENT_ID", ""),
            )
        self.log_options(dataclasses.asdict(cfg))
        self.uploader.start()
        self.uploader.flush(CONNECT_SECONDS)

    def log_options(self, options: dict[str, Any]) -> None:
        """Log the options as params config/NAME and as config.json."""
        params = {f"config/{key}": str(value)[:PARAM_CHARACTERS] for key, value in options.items()}
        self.journal.append("params", params=params)
        self.log_text(json.dumps(options, indent=1, default=str) + "\n", "config.json")

    def end(self, status: str) -> None:
        self.journal.append("end", status=status)
        self.stop.expect_no_step()  # while the rest is sent
        with closing(self.journal):
            if not self.uploader.close(SEND_SECONDS):
                command = f"python entrypoints/sync.py --folder={self.folder}"
                log.warning("%s: not all is sent. Later: %s", self.folder, command)


@contextmanager
def run(
    cfg: Any,
    *,
    name: str,
    description: str,
    folder: Path,
    tags: dict[str, Any] | None = None,
    parent: Run | None = None,
    trial: Trial | None = None,
) -> Iterator[Run]:
    """Run a block as a run of MLflow. A folder that holds a run continues that run.

    Status: FINISHED on return or exit code 0; KILLED on SIGINT, SIGTERM, SIGHUP; FAILED otherwise. Under `mlflow run`
    the outermost run is the one that `mlflow run` made; if the folder holds a run, that run continues, and the one that
    `mlflow run` made becomes its child "(continued)" with the same status. A trial has the name that its search gave.
    """
    launcher_run_id = "" if parent or trial else os.environ.pop("MLFLOW_RUN_ID", "")
    active = Run(folder, trial.name if trial else name, trial=trial, parent=parent)
    active.begin(
        cfg,
        tags={"mlflow.note.content": description} | (trial.tags if trial else {}) | (tags or {}),
        parent=parent_uuid(parent, trial),
        launcher_run_id=launcher_run_id,
    )
    status = "FAILED"
    pruned = False
    with active.stop:
        try:
            yield active
            status = "FINISHED"
        except BaseException as error:
            status = status_of(error)
            pruned = isinstance(error, Pruned)
            if isinstance(error, Exception) and not pruned:
                active.set_tags({"vlx.error": f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]})
            raise
        finally:
            if trial:
                active.set_tags({"vlx.trial_state": "pruned" if pruned else TRIAL_STATES[status]})
            active.end(status)


def parent_uuid(parent: Run | None, trial: Trial | None) -> str:
    if parent:
        return parent.uuid
    return trial.parent if trial else ""


def last_uuid(operations: list[Operation], kind: str) -> str:
    """Return the uuid of the last operation of a kind; empty if there is none."""
    return next((operation["uuid"] for operation in reversed(operations) if operation["op"] == kind), "")


def uploader_for(journal: Journal, uri: str) -> Uploader:
    return Uploader(journal, Sender(uri, journal.path.parent).send, uri=uri)


def sync(folder: Path | str) -> int:
    """Send the rest of the run in `folder`, or of all runs below it; return the number of complete runs.

    Each goes to the server it was meant for; an http server in MLFLOW_TRACKING_URI takes them all. Raises UserError.
    """
    paths = parents_first(Path(folder).rglob(JOURNAL_FILE))
    if not paths:
        raise UserError(f"{folder}: no {JOURNAL_FILE} there or below; expected the folder of a run, or one above runs.")
    complete = 0
    first_error = ""
    for path in paths:
        try:
            error = sync_run(path.parent)
        except UserError as busy:  # another process writes the run
            log.info("%s", busy)
            continue
        complete += not error
        first_error = first_error or error
    if first_error:
        raise UserError(
            f"{complete} of {len(paths)} runs are sent ({first_error[:300]}); start the server, sync again."
        )
    return complete


def parents_first(paths: Iterable[Path]) -> list[Path]:
    """Order journals so that a parent run comes before its children."""
    first_operations = {path: next(read(path, 0), ({}, 0))[0] for path in paths}
    parents = {op.get("uuid", ""): op.get("parent", "") for op in first_operations.values()}

    def depth(run_uuid: str) -> int:
        return 1 + depth(parents[run_uuid]) if run_uuid in parents else 0

    return sorted(first_operations, key=lambda path: (depth(first_operations[path].get("uuid", "")), path))


def sync_run(folder: Path) -> str:
    """Send the rest of one run; return the error that prevented it, or an empty string."""
    with closing(Journal(folder)) as journal:
        uri = store.tracking_uri()
        if not uri.startswith("http"):
            uri = read_state(folder).uri or uri
        uploader = uploader_for(journal, uri)
        uploader.start()
        if not uploader.close(SEND_SECONDS):
            return uploader.error or "no answer"
        store.close_dead_runs(store.connect(uri), uploader.state.experiment_id)
        return ""


def links(run: Run) -> list[str]:
    """Return pages of the run and its experiment (of a database those of `make ui`); none if no store was reached."""
    experiment = run.uploader.state.experiment_id
    if not experiment:
        return []
    uri = re.sub("//[^/]*@", "//", run.uri)  # without a password
    server = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    page = f"{server}/#/experiments/{experiment}/runs"
    query = "?workflowType=machine_learning"
    return [f"{page}/{run.id}/model-metrics{query}", f"{page}/{run.id}/artifacts{query}", f"{page}{query}"]


def clean(name: str) -> str:
    """Return a name that MLflow takes for a metric, param or tag."""
    return REFUSED_CHARACTERS.sub("_", name)[:250]


def as_text(tags: dict[str, Any]) -> dict[str, str]:
    return {clean(key): str(value) for key, value in tags.items()}


def source_tags() -> dict[str, str]:
    """Return the tags of a new run that MLflow shows as user and source."""
    return {
        "mlflow.user": psutil.Process().username(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
    }


def code_version() -> dict[str, str]:
    """Return the version and, in a git checkout, the commit, with -dirty if files have changed since."""
    root = Path(__file__).resolve().parents[2]
    tags = {"vlx.version": __version__}
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        tags |= {"mlflow.source.git.commit": commit.removesuffix("-dirty"), "vlx.commit": commit}
    return tags
