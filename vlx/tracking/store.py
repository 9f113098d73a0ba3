"""Where runs are kept: the tracking store, its experiment, and the runs there whose process has died."""

import os
import socket
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import ExclusiveFileLock

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


def connect(uri: str) -> MlflowClient:
    """A client of a store that answers. A fresh database is made by one process at a time."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the journal has its own patience
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    path, local = Path(uri.removeprefix(SQLITE)).absolute(), uri.startswith(SQLITE)
    if local:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExclusiveFileLock(f"{path}.lock") if local else nullcontext():
        client = MlflowClient(uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str = EXPERIMENT) -> str:
    """The experiment of that name, made if need be. Of a local database, its files are in mlruns beside it."""
    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    uri = client.tracking_uri
    files = Path(uri.removeprefix(SQLITE)).absolute().parent / "mlruns" / name
    tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": DESCRIPTION}
    try:
        return client.create_experiment(name, files.as_uri() if uri.startswith(SQLITE) else None, tags)
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # another process was faster
            return found.experiment_id
        raise


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
            points = [point for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
            wrong.append((run, max((point.timestamp for point in points), default=run.info.start_time)))
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
