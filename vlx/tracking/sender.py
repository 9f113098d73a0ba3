"""From the operations of a journal to calls of MLflow: explicit ids, no active run, safe to repeat."""

import json
import logging
import re
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.entities import Run as MlflowRun
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from vlx import __version__
from vlx.preprocessing import Preprocessing
from vlx.tracking import store
from vlx.tracking.journal import Operation, State

log = logging.getLogger("vlx")
UUID = "vlx.uuid"  # tag: the operation that made a run, a model or a version
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow names a run without a name
LAUNCHER_TAGS = {"mlflow.user", "mlflow.source.name"}  # set by `mlflow run` with better values


class Sender:
    """Sends one run's operations to one server: the operation "tags" by send_tags, and so on."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self.client: MlflowClient
        self.connected = False

    def send(self, operations: list[Operation], state: State) -> None:
        """Send operations in order. If the store does not have the run any more, raise and start from the beginning."""
        if not self.connected:
            self.client = store.connect(self.uri)
            self.connected = True
            if state.run_id and self.active_run(state.run_id) is None:
                restart(state)
                raise LookupError("this store does not have the run; it is sent from the start")
        for kind, group in groupby(operations, key=itemgetter("op")):
            same_kind = list(group)
            size = len(same_kind) if kind == "metrics" else 1
            for start in range(0, len(same_kind), size):
                self.send_batch(kind, same_kind[start : start + size], state)

    def send_batch(self, kind: str, operations: list[Operation], state: State) -> None:
        """Send operations of one kind. An operation that the server rejects as invalid is skipped with a warning."""
        try:
            getattr(self, f"send_{kind}")(state, *operations)
        except (FileNotFoundError, KeyError, UnicodeError, MlflowException) as error:
            code = getattr(error, "error_code", "INVALID_PARAMETER_VALUE")
            if kind == "create" or code != "INVALID_PARAMETER_VALUE":
                raise
            log.warning("%s: %s not taken (%s).", self.folder, kind, repr(error)[:300])

    def active_run(self, run_id: str) -> MlflowRun | None:
        """Return the run, or None if it is deleted or not of this store."""
        try:
            run = self.client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run and run.info.lifecycle_stage == "active" else None

    def run_with_uuid(self, experiments: list[str], uuid: str) -> MlflowRun | None:
        return next(iter(self.client.search_runs(experiments, f"tags.`{UUID}` = '{uuid}'", max_results=1)), None)

    def set_tags(self, run_id: str, values: dict[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def send_create(self, state: State, operation: Operation) -> None:
        """Adopt the run that `mlflow run` made, or the run of an earlier attempt, or create a run."""
        run = self.active_run(operation["launcher_run_id"])
        experiment = run.info.experiment_id if run else operation["experiment_id"]
        experiment = experiment or store.experiment_id(self.client, operation["experiment"])
        tags = operation["tags"] | {UUID: operation["uuid"]}
        if operation["parent"]:
            parent = self.parent_run(operation["parent"], experiment)
            tags["mlflow.parentRunId"] = parent.info.run_id
            experiment = parent.info.experiment_id
        store.close_dead_runs(self.client, experiment)
        run = run or self.run_with_uuid([experiment], operation["uuid"])
        if run:
            self.adopt(run, tags, name=operation["name"])
        else:
            start = operation["time_ms"]
            run = self.client.create_run(experiment, start_time=start, tags=tags, run_name=operation["name"])
        state.run_id = run.info.run_id
        state.experiment_id = experiment

    def parent_run(self, uuid: str, experiment: str) -> MlflowRun:
        """Return the run with this uuid, of `experiment` or any other."""
        run = self.run_with_uuid([experiment], uuid)
        if run is None:
            run = self.run_with_uuid([each.experiment_id for each in self.client.search_experiments()], uuid)
        if run is None:
            raise LookupError("the parent run is not sent yet")
        return run

    def adopt(self, run: MlflowRun, tags: dict[str, str], *, name: str) -> None:
        """Tag a run that exists, and name it unless the user did with --run-name."""
        self.set_tags(run.info.run_id, {key: value for key, value in tags.items() if key not in LAUNCHER_TAGS})
        if GENERATED_NAME.fullmatch(run.info.run_name or ""):
            self.client.update_run(run.info.run_id, name=name)

    def send_resume(self, state: State, operation: Operation) -> None:
        """Reopen the run; the run that `mlflow run` made for it becomes its child and ends with the same status."""
        self.set_tags(state.run_id, {store.ENDED: ""})
        self.client.update_run(state.run_id, status="RUNNING")
        launcher = operation["launcher_run_id"]
        is_another = launcher != state.run_id and self.active_run(launcher)
        state.launcher_run_id = launcher if is_another else ""
        if state.launcher_run_id:
            self.link_continuation(state, name=operation["name"])

    def link_continuation(self, state: State, *, name: str) -> None:
        """Show the launcher's run as a child of the run that it continues."""
        page = f"#/experiments/{state.experiment_id}/runs/{state.run_id}?workflowType=machine_learning"
        tags = {
            "vlx.continues": state.run_id,
            "mlflow.parentRunId": state.run_id,
            "mlflow.note.content": f"Continued an earlier run, which has all metrics: [{name}]({page}).",
        }
        self.set_tags(state.launcher_run_id, tags)
        self.client.update_run(state.launcher_run_id, name=f"{name} (continued)")

    def send_end(self, state: State, operation: Operation) -> None:
        for run_id in filter(None, (state.run_id, state.launcher_run_id)):
            self.set_tags(run_id, {store.ENDED: operation["status"]})
            self.client.set_terminated(run_id, operation["status"], end_time=operation["time_ms"])

    def send_metrics(self, state: State, *operations: Operation) -> None:
        points = [
            Metric(key, value, operation["time_ms"], operation["step"])
            for operation in operations
            for key, value in operation["values"].items()
        ]
        self.client.log_batch(state.run_id, metrics=points)

    def send_params(self, state: State, operation: Operation) -> None:
        """Log params. MLflow refuses to change one, so a changed value becomes a tag."""
        logged = self.client.get_run(state.run_id).data.params
        params = operation["params"]
        new = [Param(key, value) for key, value in params.items() if key not in logged]
        self.client.log_batch(state.run_id, params=new)
        changed = {key: value for key, value in params.items() if logged.get(key, value) != value}
        self.set_tags(state.run_id, changed)

    def send_tags(self, state: State, operation: Operation) -> None:
        self.set_tags(state.run_id, operation["tags"])

    def send_input(self, state: State, operation: Operation) -> None:
        source = json.dumps({"uri": operation["source"]})
        profile = json.dumps(operation["profile"])
        dataset = Dataset(operation["name"], operation["digest"], "local", source, profile=profile)
        tags = [InputTag("mlflow.data.context", operation["context"])]
        self.client.log_inputs(state.run_id, [DatasetInput(dataset, tags)])

    def send_artifact(self, state: State, operation: Operation) -> None:
        self.client.log_artifact(state.run_id, str(self.folder / operation["path"]), operation["to"] or None)

    def send_model(self, state: State, operation: Operation) -> None:
        """Create the logged model, or finish that of an earlier attempt."""
        run = self.client.get_run(state.run_id)
        model = self.logged_model(state, operation, run)
        state.results[operation["uuid"]] = model.model_id
        if model.status == LoggedModelStatus.READY:
            return
        outputs = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in [output.model_id for output in outputs]:
            self.client.log_outputs(state.run_id, [LoggedModelOutput(model.model_id, step=operation["step"])])
        with tempfile.TemporaryDirectory() as temporary:
            description = Model(
                operation["name"], model_uuid=model.model_id, run_id=state.run_id, model_id=model.model_id
            )
            save_pyfunc(self.folder / operation["path"], Path(temporary) / "model", description)
            self.client.log_model_artifacts(model.model_id, f"{temporary}/model")
        metrics = self.model_metrics(state.run_id, operation, model.model_id)
        self.client.log_batch(state.run_id, metrics=metrics)
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def logged_model(self, state: State, operation: Operation, run: MlflowRun) -> LoggedModel:
        """Return the logged model of an earlier attempt, or a new one."""
        with_uuid = f"tags.`{UUID}` = '{operation['uuid']}'"
        if models := self.client.search_logged_models([state.experiment_id], with_uuid, max_results=1):
            return models[0]
        return self.client.create_logged_model(
            state.experiment_id,
            operation["name"],
            state.run_id,
            tags={UUID: operation["uuid"], "task": operation["task"]},
            params={key: value for key, value in run.data.params.items() if key.startswith("config/")},
            model_type=operation["task"],
        )

    def model_metrics(self, run_id: str, operation: Operation, model_id: str) -> list[Metric]:
        """Return the run's metrics of the model's step, each linked to the model."""
        points = [point for key in operation["metrics"] for point in self.client.get_metric_history(run_id, key)]
        return [
            Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, run_id=run_id)
            for point in points
            if point.step == operation["step"]
        ]

    def send_register(self, state: State, operation: Operation) -> None:
        """Register a logged model unless an earlier attempt did."""
        name = operation["name"]
        model_id = state.results[operation["model"]]
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        version = self.model_version(state, operation, model_id)
        state.results[operation["uuid"]] = str(version.version)
        link = json.dumps([{"name": name, "version": str(version.version)}])
        self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})

    def model_version(self, state: State, operation: Operation, model_id: str) -> ModelVersion:
        """Return the version of an earlier attempt, or a new one."""
        name = operation["name"]
        with_uuid = f"name = '{name}' and tags.`{UUID}` = '{operation['uuid']}'"
        if versions := self.client.search_model_versions(with_uuid):
            return versions[0]
        tags = operation["tags"] | {UUID: operation["uuid"]}
        return self.client.create_model_version(name, f"models:/{model_id}", state.run_id, tags, model_id=model_id)


def restart(state: State) -> None:
    """Forget what was sent."""
    state.offset = 0
    state.run_id = ""
    state.experiment_id = ""
    state.launcher_run_id = ""
    state.results = {}


def save_pyfunc(folder: Path, out: Path, model: Model) -> None:
    """Wrap a vlx model folder as an MLflow model that is loaded by vlx itself (which must be installed there)."""
    images = Preprocessing.load(folder).num_images
    example = {"text": "There are two red circles."} | {f"image_{n}": f"image_{n}.png" for n in range(images)}
    outputs = Schema([ColSpec("string", "answer"), ColSpec("double", "score")])
    mlflow.pyfunc.save_model(
        path=out,
        loader_module="vlx.serving",
        data_path=str(folder),
        signature=ModelSignature(Schema([ColSpec("string", name) for name in example]), outputs),
        input_example=[example],
        pip_requirements=[f"vlx=={__version__}"],  # which pins the others
        mlflow_model=model,
    )
