"""From the operations of a journal to calls of MLflow: explicit ids, no active run, harmless when done twice."""

import json
import logging
import re
import tempfile
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from vlx import __version__
from vlx.tracking import store
from vlx.tracking.journal import Op, State

log = logging.getLogger("vlx")
UUID = "vlx.uuid"  # tag: of which operation a run, a model or a version was made
MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")  # the names that MLflow gives to runs without one


class Sender:
    """Sends one run's operations to one server: the operation "tags" by send_tags, and so on."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.folder = uri, folder
        self.client: MlflowClient
        self.connected = False

    def send(self, ops: list[Op], state: State) -> None:
        """Send operations in their order; all is sent again to a store that does not have the run (any more)."""
        if not self.connected:
            self.client, self.connected = store.connect(self.uri), True
            if state["run_id"] and self.active(state["run_id"]) is None:
                state.update(offset=0, run_id="", experiment_id="", also="", results={})
                raise LookupError("this store does not have the run; it is sent from the start")
        for kind, group in groupby(ops, key=itemgetter("op")):
            for some in [list(group)] if kind == "metrics" else [[op] for op in group]:
                self.send_some(kind, some, state)

    def send_some(self, kind: str, ops: list[Op], state: State) -> None:
        """Send operations of one kind. What the server will never take is left out, so that the rest goes on."""
        try:
            getattr(self, f"send_{kind}")(state, *ops)
        except (FileNotFoundError, KeyError, UnicodeError, MlflowException) as error:
            never = getattr(error, "error_code", "INVALID_PARAMETER_VALUE") == "INVALID_PARAMETER_VALUE"
            if kind == "create" or not never:
                raise
            log.warning("%s: %s not taken (%s).", self.folder, kind, repr(error)[:300])

    def active(self, run_id: str) -> MlflowRun | None:
        """The run, unless there is none, it is deleted, or of another store."""
        try:
            run = self.client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run and run.info.lifecycle_stage == "active" else None

    def find_run(self, experiments: list[str], uuid: str) -> MlflowRun | None:
        found = self.client.search_runs(experiments, f"tags.`{UUID}` = '{uuid}'", max_results=1)
        return found[0] if found else None

    def set_tags(self, run_id: str, values: dict[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def send_create(self, state: State, op: Op) -> None:
        """Adopt the run that `mlflow run` made, or find the one made by an earlier try, or make it."""
        run = self.active(op["adopt"])
        given = run.info.experiment_id if run else op["experiment_id"]
        where = given or store.experiment_id(self.client, op["experiment"])
        tags = op["tags"] | {UUID: op["uuid"]}
        if op["parent"]:
            everywhere = [each.experiment_id for each in self.client.search_experiments()]
            parent = self.find_run([where], op["parent"]) or self.find_run(everywhere, op["parent"])
            if parent is None:
                raise LookupError("the parent run is not sent yet")
            tags["mlflow.parentRunId"], where = parent.info.run_id, parent.info.experiment_id
        store.sweep(self.client, where)
        run = run or self.find_run([where], op["uuid"])
        if run is None:
            run = self.client.create_run(where, start_time=op["t"], tags=tags, run_name=op["name"])
        else:
            launcher = {"mlflow.user", "mlflow.source.name"}  # tags that `mlflow run` knows better
            self.set_tags(run.info.run_id, {key: tag for key, tag in tags.items() if key not in launcher})
            if MADE_UP.fullmatch(run.info.run_name or ""):  # the user gave none with --run-name
                self.client.update_run(run.info.run_id, name=op["name"])
        state.update(run_id=run.info.run_id, experiment_id=where)

    def send_resume(self, state: State, op: Op) -> None:
        """The run goes on. The one that `mlflow run` made for that says so, shows as its child, and ends as it does."""
        run_id, also = state["run_id"], op["launched"]
        self.set_tags(run_id, {store.ENDED: ""})
        self.client.update_run(run_id, status="RUNNING")
        state["also"] = also if also != run_id and self.active(also) else ""
        if state["also"]:
            page = f"#/experiments/{state['experiment_id']}/runs/{run_id}?workflowType=machine_learning"
            note = f"Continued an earlier run, where all its numbers are: [{op['name']}]({page})."
            tags = {"vlx.continues": run_id, "mlflow.parentRunId": run_id, "mlflow.note.content": note}
            self.set_tags(also, tags)
            self.client.update_run(also, name=f"{op['name']} (continued)")

    def send_end(self, state: State, op: Op) -> None:
        for run_id in filter(None, (state["run_id"], state["also"])):
            self.set_tags(run_id, {store.ENDED: op["status"]})
            self.client.set_terminated(run_id, op["status"], end_time=op["t"])

    def send_metrics(self, state: State, *ops: Op) -> None:
        points = [Metric(key, value, op["t"], op["step"]) for op in ops for key, value in op["values"].items()]
        self.client.log_batch(state["run_id"], metrics=points)

    def send_params(self, state: State, op: Op) -> None:
        """A param that has another value already cannot change: the new value becomes a tag."""
        present, given = self.client.get_run(state["run_id"]).data.params, op["params"]
        new = [Param(key, value) for key, value in given.items() if key not in present]
        self.client.log_batch(state["run_id"], params=new)
        changed = {key: value for key, value in given.items() if present.get(key, value) != value}
        self.set_tags(state["run_id"], changed)

    def send_tags(self, state: State, op: Op) -> None:
        self.set_tags(state["run_id"], op["tags"])

    def send_input(self, state: State, op: Op) -> None:
        source, profile = json.dumps({"uri": op["source"]}), json.dumps(op["profile"])
        dataset = Dataset(op["name"], op["digest"], "local", source, profile=profile)
        tags = [InputTag("mlflow.data.context", op["context"])]
        self.client.log_inputs(state["run_id"], [DatasetInput(dataset, tags)])

    def send_artifact(self, state: State, op: Op) -> None:
        self.client.log_artifact(state["run_id"], str(self.folder / op["path"]), op["to"] or None)

    def send_model(self, state: State, op: Op) -> None:
        """Make the LoggedModel, or finish the one of an earlier try."""
        run_id, where = state["run_id"], state["experiment_id"]
        run = self.client.get_run(run_id)
        found = self.client.search_logged_models([where], f"tags.`{UUID}` = '{op['uuid']}'", max_results=1)
        if found:
            logged = found[0]
        else:
            params = {key: value for key, value in run.data.params.items() if key.startswith("config/")}
            tags = {UUID: op["uuid"], "task": op["task"]}
            logged = self.client.create_logged_model(where, op["name"], run_id, tags, params, model_type=op["task"])
        model_id = state["results"][op["uuid"]] = logged.model_id
        if logged.status == LoggedModelStatus.READY:
            return
        if model_id not in [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=op["step"])])
        with tempfile.TemporaryDirectory() as temporary:
            description = Model(op["name"], model_uuid=model_id, run_id=run_id, model_id=model_id)
            save_pyfunc(self.folder / op["path"], Path(temporary) / "model", description)
            self.client.log_model_artifacts(model_id, f"{temporary}/model")
        points = [point for key in op["metrics"] for point in self.client.get_metric_history(run_id, key)]
        known = [(each.key, each.value, each.timestamp, each.step) for each in points if each.step == op["step"]]
        self.client.log_batch(run_id, metrics=[Metric(*each, model_id=model_id, run_id=run_id) for each in known])
        self.client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def send_register(self, state: State, op: Op) -> None:
        """Register a logged model unless an earlier try did."""
        name, model_id = op["name"], state["results"][op["model"]]
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        if found := self.client.search_model_versions(f"name = '{name}' and tags.`{UUID}` = '{op['uuid']}'"):
            made = found[0]
        else:
            tags, source = op["tags"] | {UUID: op["uuid"]}, f"models:/{model_id}"
            made = self.client.create_model_version(name, source, state["run_id"], tags, model_id=model_id)
        state["results"][op["uuid"]] = str(made.version)
        link = json.dumps([{"name": name, "version": str(made.version)}])
        self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})


def save_pyfunc(folder: Path, out: Path, model: Model) -> None:
    """Wrap a vlx model folder as an MLflow model that is loaded by vlx itself (which must be installed there)."""
    images = json.loads((folder / "vlx.json").read_text(encoding="utf-8"))["num_images"]
    example = {"text": "There are two red circles."} | {f"image_{n}": f"picture_{n}.png" for n in range(images)}
    outputs = Schema([ColSpec("string", "answer"), ColSpec("double", "score")])
    mlflow.pyfunc.save_model(
        path=out,
        loader_module="vlx.tracking.serving",
        data_path=str(folder),
        signature=ModelSignature(Schema([ColSpec("string", name) for name in example]), outputs),
        input_example=[example],
        pip_requirements=[f"vlx=={__version__}"],  # which pins the others
        mlflow_model=model,
    )
