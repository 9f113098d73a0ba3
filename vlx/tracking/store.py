"""The tracking store: its address, its experiment, and its runs whose process is dead."""

import os
import socket
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import ExclusiveFileLock

from vlx.tracking.project import EXPERIMENT, project_folder

SQLITE = "sqlite:///"
ENDED = "vlx.ended"  # tag: the status with which the run itself ended
HOST = "vlx.host"  # tag: the machine or container whose process writes the run
PROCESS = "vlx.process"  # tag: the process id and when the process started
CREATE_TIME_TOLERANCE = 5.0  # seconds between two readings of a process's start time
DESCRIPTION = (
    "Vision-and-language models, trained, distilled and compared; a student's run holds its baseline as child."
)


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or MLflow's own default: mlflow.db of the project (else of the working directory)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{project_folder() or Path.cwd()}/mlflow.db"
    return f"{SQLITE}{database_path(uri)}" if uri.startswith(SQLITE) else uri


def database_path(uri: str) -> Path:
    """Return the absolute path of the database of a sqlite URI."""
    return Path(uri.removeprefix(SQLITE)).absolute()


def connect(uri: str) -> MlflowClient:
    """Return a client of a store that answers. A new database is created by one process at a time."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the journal retries by itself
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    is_database = uri.startswith(SQLITE)
    path = database_path(uri)
    if is_database:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExclusiveFileLock(f"{path}.lock") if is_database else nullcontext():
        client = MlflowClient(uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str = EXPERIMENT) -> str:
    """Return the id of an experiment, created if need be; beside a local database its files are in mlruns."""
    if experiment := client.get_experiment_by_name(name):
        return experiment.experiment_id
    uri = client.tracking_uri
    artifacts = (database_path(uri).parent / "mlruns" / name).as_uri() if uri.startswith(SQLITE) else None
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": DESCRIPTION}
    try:
        return client.create_experiment(name, artifacts, tags)
    except MlflowException:
        if experiment := client.get_experiment_by_name(name):  # another process was faster
            return experiment.experiment_id
        raise


def process_tags() -> dict[str, str]:
    """Return tags that identify this process. A container that shares its host's name counts as another host."""
    namespace = Path("/proc/self/ns/pid")
    container = os.readlink(namespace) if namespace.exists() else ""
    host = f"{socket.gethostname()} {container}".strip()
    return {HOST: host, PROCESS: f"{os.getpid()} {psutil.Process().create_time()}"}


def close_dead_runs(client: MlflowClient, experiment: str) -> None:
    """Mark as KILLED this host's RUNNING runs without a live process, and FAILED runs that ended as KILLED.

    MLflow 3.17's `mlflow run` marks a run FAILED whenever the exit code is not 0.
    """
    running = f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{process_tags()[HOST]}'"
    for run in client.search_runs([experiment], running):
        if not is_alive(run.data.tags.get(PROCESS, "")):
            mark_killed(client, run, end_time=last_metric_time(client, run))
    failed = f"attributes.status = 'FAILED' and tags.`{ENDED}` = 'KILLED'"
    for run in client.search_runs([experiment], failed):
        mark_killed(client, run, end_time=run.info.end_time)


def mark_killed(client: MlflowClient, run: MlflowRun, *, end_time: int) -> None:
    with suppress(MlflowException):  # another user's run
        client.set_terminated(run.info.run_id, "KILLED", end_time=end_time)


def last_metric_time(client: MlflowClient, run: MlflowRun) -> int:
    """Return when the run's last metric was logged, else when the run started; ms since 1970."""
    points = [point for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
    return max((point.timestamp for point in points), default=run.info.start_time)


def is_alive(process: str) -> bool:
    """Return whether `process` (its id and start time) still runs; False if another process has its id by now."""
    try:
        pid, started = process.split()
        running = psutil.Process(int(pid))
        is_same = abs(running.create_time() - float(started)) < CREATE_TIME_TOLERANCE
        return is_same and running.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
