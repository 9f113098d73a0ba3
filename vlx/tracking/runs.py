"""A run: what happens inside it is written to its journal, and MLflow is told how it ended."""

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
from vlx.tracking.journal import JOURNAL, Journal, Uploader, read, read_state
from vlx.tracking.sender import Sender
from vlx.tracking.stop import PATIENCE, Pruned, Stop, status_of

log = logging.getLogger("vlx")
CONTACT_SECONDS = 20.0  # how long a run waits at its start for the server, so that its id is known
SEND_SECONDS = 600.0  # for a slow server; a dead one is left after a few tries
PARAM_CHARACTERS = 500
TRIAL_STATES = {"FINISHED": "complete", "KILLED": "killed", "FAILED": "failed"}
NOT_IN_NAMES = re.compile(r"[^\w./ :-]")  # what MLflow refuses in names of metrics, params and tags


@dataclass
class Trial:
    """What a run is told by the search that it is a trial of, and what the search learns from it.

    report: takes the best validation score, the step, and whether it was the last; raises Pruned to end the run.
    """

    parent: str  # uuid of the search's run
    name: str
    tags: dict[str, Any]
    report: Callable[[float, int, bool], None]
    publishes: bool = False  # the model is tested and logged, as it is without a search
    run: "Run | None" = None
    metrics: dict[str, float] = field(default_factory=dict)  # the last value of each
    candidate: tuple[str, dict[str, Any]] | None = None  # name and tags with which the model would have been registered


class Run:
    """An open run. Nothing here raises because of a server; only `register` waits for it."""

    def __init__(self, folder: Path, name: str, trial: Trial | None = None, parent: "Run | None" = None) -> None:
        self.folder, self.name, self.own_trial = folder, name, trial
        self.trial: Trial | None = trial or (parent.trial if parent else None)
        self.uri = store.tracking_uri()
        self.journal = Journal(folder)
        written = [op for op, _ in read(self.journal.path, 0) if op["op"] in ("create", "model")]
        created = next((op["uuid"] for op in written if op["op"] == "create"), "")
        self.resumed, self.uuid = bool(created), created or uuid.uuid4().hex
        self.uploader = Uploader(self.journal, Sender(self.uri, folder).send, self.uri)
        self.stop = Stop()
        self.model = next((op["uuid"] for op in reversed(written) if op["op"] == "model"), "")  # the last one
        if trial:
            trial.run = self

    @property
    def id(self) -> str:
        """The MLflow id; until the server has been reached, the journal's own."""
        return self.uploader.state["run_id"] or self.uuid

    @property
    def publishes(self) -> bool:
        """Whether the model is tested and logged: not while a search chooses, in which the test split has no part."""
        return not self.trial or self.trial.publishes

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        """One value a name and step: a repeated one is of a resumed run, and dropped. nan stays; MLflow caps inf."""
        self.journal.metrics({clean(key): float(value) for key, value in metrics.items()}, int(step))
        if self.own_trial:
            self.own_trial.metrics.update(metrics)

    def report(self, best: float, *, step: int, last: bool) -> None:
        """The best validation score so far, after an evaluation. Raises Pruned if a search wants no more of this."""
        if self.own_trial:
            self.own_trial.report(best, step, last)

    def set_tags(self, tags: dict[str, Any]) -> None:
        self.journal.append("tags", tags=as_text(tags))

    def log_artifact(self, path: Path | str, to: str = "") -> None:
        """A file or folder under the run's artifacts in the folder `to`. It must stay until it is sent."""
        if not Path(path).exists():
            raise FileNotFoundError(path)
        self.journal.append("artifact", path=os.path.relpath(path, self.folder), to=to)

    def log_text(self, text: str, to: str) -> None:
        """`to`: path under the artifacts, as model_card.md. The last that ends in .table.json is shown as a table."""
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
        """The data of a run. digest: at most 36 characters; context: train, validation or test."""
        fields = {"name": name, "digest": digest[:36], "source": str(source), "context": context, "profile": profile}
        self.journal.append("input", uuid=self.same(fields), **fields)

    def log_model(self, folder: Path, *, name: str, task: str, metrics: dict[str, float], step: int) -> None:
        """A saved vlx model folder as a model of MLflow. `folder` must stay until it is sent."""
        self.log_metrics(metrics, step=step)
        fields = {"path": os.path.relpath(folder, self.folder), "name": name, "task": task, "step": step}
        content = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        self.model = self.same({"name": name, "step": step, "content": content})
        self.journal.append("model", uuid=self.model, metrics=[clean(key) for key in metrics], **fields)

    def register(self, name: str, *, tags: dict[str, Any]) -> str | None:
        """A version of the model last logged, its number; None if the server is away: sync will do it.

        Of a trial nothing is registered: its search is told, and may register the winner's.
        """
        registry.check_name(name)
        if self.own_trial:
            self.own_trial.candidate = (name, tags)
        if self.trial:
            return None
        if not self.model:
            raise RuntimeError("register: no model was logged in this run; call log_model first.")
        request = self.same({"register": name, "model": self.model})
        self.journal.append("register", uuid=request, model=self.model, name=name, tags=as_text(tags))
        self.uploader.flush(SEND_SECONDS)
        return self.uploader.state["results"].get(request)

    def same(self, fields: dict[str, Any]) -> str:
        """The same for the same operation of this run: a resumed run that asks again does nothing new."""
        return uuid.uuid5(uuid.UUID(self.uuid), json.dumps(fields, sort_keys=True, default=str)).hex

    def stop_if_asked(self, before: Callable[[], None]) -> None:
        """To be called at each step: after a signal, call `before` (save) and end the run."""
        self.stop.poll(before)

    def begin(self, cfg: Any, tags: dict[str, Any], parent: str, launched: str) -> None:
        """The first operations; of a resumed run, those that say that it goes on."""
        tags = as_text(tags | store.process_tags() | code_version())
        if self.resumed:
            self.set_tags(tags | {"vlx.error": ""})
            self.journal.append("resume", launched=launched, name=self.name)
        else:
            tags |= {"mlflow.user": psutil.Process().username(), "mlflow.source.type": "LOCAL"}
            tags |= {"mlflow.source.name": Path(sys.argv[0]).name}
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or store.EXPERIMENT
            where = {"experiment": experiment, "experiment_id": os.environ.get("MLFLOW_EXPERIMENT_ID", "")}
            origin = {"name": self.name, "adopt": launched, "parent": parent}
            self.journal.append("create", uuid=self.uuid, tags=tags, **origin, **where)
        options = dataclasses.asdict(cfg)
        self.journal.append(
            "params", params={f"config/{key}": str(value)[:PARAM_CHARACTERS] for key, value in options.items()}
        )
        self.log_text(json.dumps(options, indent=1, default=str) + "\n", "config.json")
        self.uploader.start()
        self.uploader.flush(CONTACT_SECONDS)

    def end(self, status: str) -> None:
        self.journal.append("end", status=status)
        self.stop.polled = -PATIENCE  # a signal while the rest is sent has no step to wait for
        with closing(self.journal):
            if not self.uploader.close(SEND_SECONDS):
                log.warning("%s: not all is sent. Later: python entrypoints/sync.py --folder=%s", *[self.folder] * 2)


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
    """A run of MLflow around a block. The same folder again continues the same run.

    Status: FINISHED on return or exit code 0; KILLED on SIGINT, SIGTERM, SIGHUP; FAILED otherwise. Launched by
    `mlflow run`, the outermost run is the one that it made; if the folder has a run already, that one goes on, and
    the one that `mlflow run` made becomes its child "(continued)" with the same status. A trial is named by its search.
    """
    launched = "" if parent or trial else os.environ.pop("MLFLOW_RUN_ID", "")
    this, status, pruned = Run(folder, trial.name if trial else name, trial, parent), "FAILED", False
    above = parent.uuid if parent else trial.parent if trial else ""
    told = {"mlflow.note.content": description} | (trial.tags if trial else {}) | (tags or {})
    this.begin(cfg, told, above, launched)
    with this.stop:
        try:
            yield this
            status = "FINISHED"
        except BaseException as error:
            status, pruned = status_of(error), isinstance(error, Pruned)
            if isinstance(error, Exception) and not pruned:
                this.set_tags({"vlx.error": f"{type(error).__name__}: {error}"[:500]})
            raise
        finally:
            if trial:
                this.set_tags({"vlx.trial_state": "pruned" if pruned else TRIAL_STATES[status]})
            this.end(status)


def sync(folder: Path | str) -> int:
    """Send what is left of the run in `folder`, or of all runs below it; returns how many are complete.

    Each goes to the server it was meant for; an http server in MLFLOW_TRACKING_URI takes them all. Raises UserError.
    """
    paths = parents_first(Path(folder).rglob(JOURNAL))
    if not paths:
        raise UserError(f"{folder}: no {JOURNAL} there or below; expected the folder of a run, or one above runs.")
    complete, left = 0, ""
    for path in paths:
        try:
            error = sync_one(path.parent)
            complete, left = complete + (not error), left or error
        except UserError as busy:
            log.info("%s", busy)
    if left:
        raise UserError(f"{complete} of {len(paths)} runs are sent ({left[:300]}); start the server, sync again.")
    return complete


def parents_first(paths: Iterable[Path]) -> list[Path]:
    """Journals in the order in which they can be sent: a child finds its parent there."""
    made = {path: next(read(path, 0), ({}, 0))[0] for path in paths}
    above = {op.get("uuid", ""): op.get("parent", "") for op in made.values()}

    def ancestors(uuid: str) -> int:
        return 1 + ancestors(above[uuid]) if uuid in above else 0

    return sorted(made, key=lambda path: (ancestors(made[path].get("uuid", "")), path))


def sync_one(folder: Path) -> str:
    """Empty, or the error that stopped it."""
    with closing(Journal(folder)) as journal:
        meant, uri = read_state(folder)["uri"], store.tracking_uri()
        uri = uri if uri.startswith("http") or not meant else meant
        uploader = Uploader(journal, Sender(uri, folder).send, uri)
        uploader.start()
        if not uploader.close(SEND_SECONDS):
            return uploader.error or "no answer"
        store.sweep(store.connect(uri), uploader.state["experiment_id"])
        return ""


def links(this: Run) -> list[str]:
    """Pages of the run and its experiment (without a server, those of `make ui`); none until the store was reached."""
    if not (experiment := this.uploader.state["experiment_id"]):
        return []
    uri = re.sub("//[^/]*@", "//", this.uri)  # without a password
    base = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    page, ending = f"{base}/#/experiments/{experiment}/runs", "?workflowType=machine_learning"
    return [f"{page}/{this.id}/model-metrics{ending}", f"{page}/{this.id}/artifacts{ending}", f"{page}{ending}"]


def clean(name: str) -> str:
    return NOT_IN_NAMES.sub("_", name)[:250]


def as_text(tags: dict[str, Any]) -> dict[str, str]:
    return {clean(key): str(value) for key, value in tags.items()}


def code_version() -> dict[str, str]:
    """The version, and of a git checkout its commit, which ends in -dirty if files were changed since."""
    root, tags = Path(__file__).resolve().parents[2], {"vlx.version": __version__}
    if (root / ".git").exists() and shutil.which("git"):
        words = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
        commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
        tags |= {"mlflow.source.git.commit": commit.removesuffix("-dirty"), "vlx.commit": commit}
    return tags
