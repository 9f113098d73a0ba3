"""Where runs are kept: the tracking store, its experiment, and the runs there whose process has died."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from vlx.tracking.experiment import project

EXPERIMENT = "vlx"
SQLITE = "sqlite:///"
ENDED = "vlx.ended"  # tag: how a run says it ended
DESCRIPTION = (
    "Runs of vlx: vision-and-language models, trained, distilled and compared. A student's run holds its baseline as "
    "a child; `config/...` are its options, `test/...` its scores, `model_card.md` says what it is."
)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default: mlflow.db of the project (else of the working directory)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{project() or Path.cwd()}/mlflow.db"
    path = uri.removeprefix(SQLITE)
    return uri if path == uri else SQLITE + str(Path(path).absolute())


def without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri


def connect(uri: str) -> MlflowClient:
    """A client of a store that answers. A fresh database is made by one process at a time."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the journal has its own patience
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with alone(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Keep other processes away from a database file."""
    if not uri.startswith(SQLITE):
        yield
        return
    folder = Path(uri.removeprefix(SQLITE)).parent
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def experiment_id(client: MlflowClient, name: str = EXPERIMENT) -> str:
    """The experiment of that name, made if need be. Of a local database, its files are in mlruns beside it."""
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    uri = client.tracking_uri
    location = Path(uri.removeprefix(SQLITE)).parent / "mlruns" / name if uri.startswith(SQLITE) else None
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": DESCRIPTION}
    try:
        return client.create_experiment(name, location.absolute().as_uri() if location else None, tags)
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another process was faster
        if found is None:
            raise
        return found.experiment_id


def process_tags() -> dict[str, str]:
    """Who writes this run, so that another process can tell whether it still lives."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return {
        "vlx.host": socket.gethostname(),
        "vlx.pid": str(os.getpid()),
        "vlx.pid_started": str(psutil.Process().create_time()),
        "vlx.boot_id": boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
        "vlx.pid_namespace": os.readlink(namespace) if namespace.exists() else "",
    }


def sweep(client: MlflowClient, experiment: str) -> None:
    """Mark KILLED this host's runs that say RUNNING though their process is dead, and those that `mlflow run` marked
    FAILED over our KILLED (MLflow 3.17 does so whenever the exit code is not 0)."""
    mine = process_tags()
    here = f"tags.`vlx.host` = '{mine['vlx.host']}'"
    for run in client.search_runs([experiment], f"attributes.status = 'RUNNING' and {here}", max_results=1_000):
        if not is_alive(run, mine):
            mark_killed(client, run, last_sign(client, run))
    said = f"attributes.status = 'FAILED' and tags.`{ENDED}` = 'KILLED' and {here}"
    for run in client.search_runs([experiment], said, max_results=1_000):
        mark_killed(client, run, run.info.end_time)


def mark_killed(client: MlflowClient, run: MlflowRun, end_time: int) -> None:
    with suppress(MlflowException):  # another user's run
        client.set_terminated(run.info.run_id, "KILLED", end_time=end_time)


def is_alive(run: MlflowRun, mine: dict[str, str]) -> bool:
    """Also True of a container beside this one, whose processes cannot be seen."""
    theirs = {key: run.data.tags.get(key, "") for key in mine}
    if theirs["vlx.boot_id"] != mine["vlx.boot_id"]:
        return False
    if theirs["vlx.pid_namespace"] != mine["vlx.pid_namespace"]:
        return True
    try:
        process = psutil.Process(int(theirs["vlx.pid"]))
        same = abs(process.create_time() - float(theirs["vlx.pid_started"])) < 5
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def last_sign(client: MlflowClient, run: MlflowRun) -> int:
    """Time in ms of the newest value of the run's metrics, else of its start."""
    keys = list(run.data.metrics)[:3]
    times = [metric.timestamp for key in keys for metric in client.get_metric_history(run.info.run_id, key)]
    return max([*times, run.info.start_time])
