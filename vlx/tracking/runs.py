"""A run: what happens inside it is written to its journal, and MLflow is told how it ended."""

import dataclasses
import errno
import getpass
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vlx import __version__
from vlx.errors import UserError
from vlx.tracking import registry, store
from vlx.tracking.journal import JOURNAL, STATE, Journal, Uploader, read, read_state
from vlx.tracking.sender import MlflowSender
from vlx.tracking.stop import Stop, status_of

log = logging.getLogger("vlx")
CONTACT_SECONDS = 20.0  # how long a run waits at its start for the server, so that its id is known
REGISTER_SECONDS = 120.0
CLOSE_SECONDS = 600.0  # for a slow server; a dead one is left after a few tries
PARAM_CHARACTERS = 500
TABLE = ".table.json"  # text under such a name is shown as a table
NOT_IN_NAMES = re.compile(r"[^\w./ :-]")  # what MLflow refuses in names of metrics, params and tags


class Run:
    """An open run. Nothing here raises because of a server; only `register` waits for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.uri = store.tracking_uri()
        self.journal = Journal(folder)
        created = next((op["uuid"] for op, _ in read(self.journal.path, 0) if op["op"] == "create"), "")
        self.resumed, self.uuid = bool(created), created or uuid.uuid4().hex
        self.uploader = Uploader(self.journal, MlflowSender(self.uri, folder), store.without_password(self.uri))
        self.stop = Stop()
        self.continues, self.model = "", ""  # the run of `mlflow run` that continues this one; uuid of the last model
        self.tables: list[dict[str, str]] = []

    @property
    def id(self) -> str:
        """The MLflow id; until the server has been reached, the journal's own."""
        return self.uploader.state["run_id"] or self.uuid

    @property
    def experiment_id(self) -> str:
        """Empty until the server has been reached."""
        return self.uploader.state["experiment_id"]

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        """One value a name and step: a repeated one is of a resumed run, and dropped. nan stays; MLflow caps inf."""
        self.journal.metrics({clean(key): float(value) for key, value in metrics.items()}, int(step))

    def set_tags(self, tags: dict[str, Any]) -> None:
        self.journal.append("tags", tags=as_text(tags))

    def log_artifact(self, path: Path | str, to: str = "") -> None:
        """Keep a copy of a file or folder, as it is now, under the run's artifacts in the folder `to`."""
        source = Path(path)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        with self.artifact(f"{to}/{source.name}".lstrip("/")) as place:
            if source.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            copy(source, place)

    def log_text(self, text: str, to: str) -> None:
        """`to`: path under the artifacts, as model_card.md. A name ending in .table.json is shown as a table."""
        with self.artifact(to) as place:
            place.write_text(text, encoding="utf-8")
        if to.endswith(TABLE):
            self.tables = [table for table in self.tables if table["path"] != to] + [{"path": to, "type": "table"}]
            self.set_tags({"mlflow.loggedArtifacts": json.dumps(self.tables)})

    def log_figure(self, figure: Figure, to: str) -> None:
        with self.artifact(to) as place:
            figure.savefig(place, dpi=120)

    @contextmanager
    def artifact(self, to: str) -> Iterator[Path]:
        """Where to write an artifact, which is then sent. A full disk costs the artifact, not the run."""
        path = self.folder / "artifacts" / to
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("%s: not kept (%s).", path, error)
            return
        parent = to if path.is_dir() else to.rpartition("/")[0]
        self.journal.append("artifact", path=f"artifacts/{to}", to=parent)

    def log_input(self, *, name: str, digest: str, source: Path | str, context: str, profile: dict[str, Any]) -> None:
        """The data of a run. digest: at most 36 characters; context: train, validation or test."""
        fields = {"name": name, "digest": digest[:36], "source": str(source), "context": context, "profile": profile}
        self.journal.append("input", uuid=self.same(fields), **fields)

    def log_model(self, folder: Path, *, name: str, task: str, metrics: dict[str, float], step: int) -> None:
        """A saved vlx model folder as a model of MLflow. `folder` must stay until it is sent."""
        where = os.path.relpath(folder, self.folder)
        self.model = self.same({"name": name, "step": step, "content": registry.digest(folder)})
        self.log_metrics(metrics, step=step)
        points = {clean(key): [float(value), self.journal.seen[clean(key)][step]] for key, value in metrics.items()}
        self.journal.append("model", uuid=self.model, path=where, name=name, task=task, points=points, step=step)

    def register(self, name: str, *, tags: dict[str, Any]) -> str | None:
        """A version of the model last logged, its number; None if the server is away: sync will do it."""
        registry.check_name(name)
        if not self.model:
            raise RuntimeError("register: no model was logged in this run; call log_model first.")
        request = self.same({"register": name, "model": self.model})
        self.journal.append("register", uuid=request, model=self.model, name=name, tags=as_text(tags))
        self.uploader.flush(REGISTER_SECONDS)
        return self.uploader.state["results"].get(request)

    def same(self, fields: dict[str, Any]) -> str:
        """The same for the same operation of this run: a resumed run that asks again does nothing new."""
        return uuid.uuid5(uuid.UUID(self.uuid), json.dumps(fields, sort_keys=True, default=str)).hex

    def stop_if_asked(self, before: Callable[[], None]) -> None:
        """To be called at each step: after a signal, call `before` (save) and end the run."""
        self.stop.poll(before)

    def begin(self, cfg: Any, description: str, tags: dict[str, str], parent: "Run | None", launched: str) -> None:
        """The first operations; of a resumed run, those that say that it goes on."""
        tags = tags | store.process_tags() | code_version() | {"mlflow.note.content": description}
        if self.resumed:
            self.continues = launched if launched and launched != self.id else ""
            if self.continues:
                self.journal.append("continued", run=launched, name=self.name)
            self.set_tags(tags | {"vlx.error": ""})
            self.journal.append("status", status="RUNNING", also="")
        else:
            script = {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
            where = {"experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or store.EXPERIMENT}
            where["experiment_id"] = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
            origin = {"adopt": launched, "parent": parent.uuid if parent else "", "name": self.name}
            self.journal.append(
                "create", uuid=self.uuid, tags=as_text(script | tags | {"mlflow.user": user()}), **origin, **where
            )
        options = dataclasses.asdict(cfg)
        self.journal.append("params", params={f"config/{key}": shorten(value) for key, value in options.items()})
        self.log_text(json.dumps(options, indent=1, default=str) + "\n", "config.json")
        self.uploader.start()
        self.uploader.contact.wait(CONTACT_SECONDS)

    def end(self, status: str, error: BaseException | None) -> None:
        if status == "FAILED" and isinstance(error, Exception):
            self.set_tags({"vlx.error": f"{type(error).__name__}: {error}"[:500]})
            self.log_text("".join(traceback.format_exception(error)), "error.txt")
        self.journal.append("status", status=status, also=self.continues)
        self.stop.defer_no_more()
        try:
            if not self.uploader.close(CLOSE_SECONDS):
                log.warning(
                    "%s: not all is sent. Later: python entrypoints/sync.py --folder=%s", self.folder, self.folder
                )
        finally:
            self.journal.close()


@contextmanager
def run(
    cfg: Any,
    *,
    name: str,
    description: str,
    folder: Path,
    tags: dict[str, Any] | None = None,
    parent: Run | None = None,
) -> Iterator[Run]:
    """A run of MLflow around a block. The same folder again continues the same run.

    Status: FINISHED on return or exit code 0; KILLED on SIGINT, SIGTERM, SIGHUP; FAILED otherwise. Launched by
    `mlflow run`, the outermost run is the one that it made; if the folder has a run already, that one goes on, and
    the one that `mlflow run` made becomes its child "(continued)" with the same status.
    """
    launched = "" if parent else os.environ.pop("MLFLOW_RUN_ID", "")
    this = Run(folder, name)
    this.begin(cfg, description, as_text(tags or {}), parent, launched)
    status, failure = "FAILED", None
    with this.stop:
        try:
            yield this
            status = "FINISHED"
        except BaseException as error:
            failure, status = error, status_of(error)
            raise
        finally:
            this.end(status, failure)


def sync(folder: Path | str) -> int:
    """Send what is left of the run in `folder`, or of all runs below it; returns how many are complete.

    Each goes to the server it was meant for; an http server in MLFLOW_TRACKING_URI takes them all. Raises UserError.
    """
    paths = sorted(Path(folder).rglob(JOURNAL), key=lambda path: len(path.parts))  # parents first
    if not paths:
        raise UserError(f"{folder}: no {JOURNAL} there or below; expected the folder of a run, or one above runs.")
    complete, left = 0, ""
    for path in paths:
        try:
            error = sync_one(path.parent)
        except UserError as busy:
            log.info("%s", busy)
            continue
        complete, left = complete + (not error), left or error
    if left:
        raise UserError(
            f"{len(paths) - complete} of {len(paths)} runs not all sent ({left[:300]}); start the server, sync again."
        )
    return complete


def sync_one(folder: Path) -> str:
    """Empty, or the error that stopped it."""
    journal = Journal(folder)
    try:
        meant, uri = read_state(folder / STATE)["last"], store.tracking_uri()
        uri = uri if uri.startswith("http") or not meant else meant
        uploader = Uploader(journal, MlflowSender(uri, folder), store.without_password(uri))
        uploader.start()
        if not uploader.close(CLOSE_SECONDS):
            return uploader.error
        store.sweep(store.connect(uri), uploader.state["experiment_id"])
        return ""
    finally:
        journal.close()


def links(this: Run) -> list[str]:
    """Pages of the run and its experiment (without a server, those of `make ui`); none until the store was reached."""
    if not this.experiment_id:
        return []
    uri = store.without_password(this.uri)
    base = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    page, ending = f"{base}/#/experiments/{this.experiment_id}/runs", "?workflowType=machine_learning"
    return [f"{page}/{this.id}/model-metrics{ending}", f"{page}/{this.id}/artifacts{ending}", f"{page}{ending}"]


def user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "unknown"


def clean(name: str) -> str:
    return NOT_IN_NAMES.sub("_", name)[:250]


def as_text(tags: dict[str, Any]) -> dict[str, str]:
    return {clean(key): str(value) for key, value in tags.items()}


def shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= PARAM_CHARACTERS else f"{text[: PARAM_CHARACTERS - 1]}…"


def code_version() -> dict[str, str]:
    """The version, and of a git checkout its commit and, if it is dirty, a hash of the difference."""
    root, tags = Path(__file__).resolve().parents[2], {"vlx.version": __version__}
    if not (root / ".git").exists():
        return tags
    try:
        commit, difference = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True, timeout=20).stdout
            for words in (["rev-parse", "HEAD"], ["diff", "HEAD"])
        )
    except (OSError, subprocess.SubprocessError):
        return tags
    tags["mlflow.source.git.commit"] = commit.decode().strip()
    return tags | ({"vlx.diff": hashlib.sha256(difference).hexdigest()[:12]} if difference else {})
