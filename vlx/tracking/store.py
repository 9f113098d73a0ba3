"""Where runs are kept: the tracking store, its experiment, and the runs there whose process has died."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from vlx.tracking.experiment import project

EXPERIMENT = "vlx"
SQLITE = "sqlite:///"
ENDED = "vlx.ended"  # tag: how a run says it ended
DESCRIPTION = (
    "Vision-and-language models, trained, distilled and compared; a student's run holds its baseline as child."
)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's own default: mlflow.db of the project (else of the working directory)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{project() or Path.cwd()}/mlflow.db"
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def without_password(uri: str) -> str:
    return re.sub(r"//[^/]*@", "//", uri)


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
    """Keep other processes of vlx away from a database file; a server looks after itself."""
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
    uri = client.tracking_uri
    with alone(uri):
        found = client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        files = Path(uri.removeprefix(SQLITE)).absolute().parent / "mlruns" / name
        tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": DESCRIPTION}
        return client.create_experiment(name, files.as_uri() if uri.startswith(SQLITE) else None, tags)


def process_tags() -> dict[str, str]:
    """Who writes this run. A container that shares its host's name is a host of its own: its processes are hidden."""
    namespace = Path("/proc/self/ns/pid")
    host = f"{socket.gethostname()} {os.readlink(namespace) if namespace.exists() else ''}".strip()
    return {"vlx.host": host, "vlx.process": f"{os.getpid()} {psutil.Process().create_time()}"}


def sweep(client: MlflowClient, experiment: str) -> None:
    """Mark KILLED this host's runs that say RUNNING though their process is dead, and those that `mlflow run` marked
    FAILED over our KILLED (MLflow 3.17 does so whenever the exit code is not 0)."""
    running = f"attributes.status = 'RUNNING' and tags.`vlx.host` = '{process_tags()['vlx.host']}'"
    failed = f"attributes.status = 'FAILED' and tags.`{ENDED}` = 'KILLED'"
    wrong = [(run, run.info.end_time) for run in client.search_runs([experiment], failed)]
    for run in client.search_runs([experiment], running):
        if not is_alive(run.data.tags.get("vlx.process", "")):
            wrong.append((run, last_sign(client, run)))
    for run, end_time in wrong:
        with suppress(MlflowException):  # another user's run
            client.set_terminated(run.info.run_id, "KILLED", end_time=end_time)


def is_alive(process: str) -> bool:
    """process: a pid and when it started; False if it is gone, or its pid is another process's by now."""
    try:
        pid, started = process.split()
        found = psutil.Process(int(pid))
        return abs(found.create_time() - float(started)) < 5 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def last_sign(client: MlflowClient, run: MlflowRun) -> int:
    """Time in ms of the newest value of the run's metrics, else of its start."""
    keys = list(run.data.metrics)[:3]
    times = [metric.timestamp for key in keys for metric in client.get_metric_history(run.info.run_id, key)]
    return max([*times, run.info.start_time])
