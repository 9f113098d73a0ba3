"""From the operations of a journal to calls of MLflow: explicit ids, no active run, harmless when done twice."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from vlx.tracking import registry, store
from vlx.tracking.journal import GROUP, Op, Refused

State = dict[str, Any]
SMALL_GROUP = 90  # params or tags sent at once; the REST limit is 100
MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")  # the names that MLflow gives to runs without one
UUID = "vlx.uuid"


class MlflowSender:
    """Sends one run's operations to one server."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.folder = uri, folder
        self.client: MlflowClient
        self.kinds: dict[str, Callable[[Op, State], None]] = {
            name: getattr(self, name)
            for name in ("create", "params", "tags", "input", "artifact", "model", "register", "continued", "status")
        }

    def start(self, state: State) -> None:
        """Connect; forget what a store knew that no longer has the run."""
        self.client = store.connect(self.uri)
        if state["run_id"] and self.active(state["run_id"]) is None:
            state.update(offset=0, run_id="", experiment_id="", results={})

    def active(self, run_id: str) -> MlflowRun | None:
        """The run, unless it is deleted or of another store."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def send(self, ops: list[Op], state: State) -> None:
        kind = ops[0]["op"]
        if kind != "create" and not state["run_id"]:
            raise LookupError("the run is not made yet")
        try:
            if kind == "metrics":
                self.metrics(ops, state["run_id"])
            elif kind in self.kinds:
                self.kinds[kind](ops[0], state)
            else:
                raise Refused(f"unknown operation {kind}")
        except (FileNotFoundError, KeyError, UnicodeError, MlflowException) as error:
            if kind == "create" or getattr(error, "error_code", "INVALID_PARAMETER_VALUE") != "INVALID_PARAMETER_VALUE":
                raise  # try again later
            raise Refused(repr(error)) from error

    def create(self, op: Op, state: State) -> None:
        """Adopt the run that `mlflow run` made, or find the one made by an earlier try, or make it."""
        run = self.active(op["adopt"]) if op["adopt"] else None
        where = (
            run.info.experiment_id if run else op["experiment_id"] or store.experiment_id(self.client, op["experiment"])
        )
        store.sweep(self.client, where)
        run = run or self.find(where, op["uuid"])
        tags = op["tags"] | {UUID: op["uuid"]}
        if op["parent"]:
            parent = self.find(where, op["parent"])
            if parent is None:
                raise LookupError("the parent run is not sent yet")
            tags["mlflow.parentRunId"] = parent.info.run_id
        if run is None:
            run = self.client.create_run(where, start_time=op["t"], tags=tags, run_name=op["name"])
        else:
            self.set_tags(
                run.info.run_id,
                {key: tag for key, tag in tags.items() if key not in ("mlflow.user", "mlflow.source.name")},
            )
            if MADE_UP.fullmatch(run.info.run_name or ""):  # the user gave none with --run-name
                self.client.update_run(run.info.run_id, name=op["name"])
        state["run_id"], state["experiment_id"] = run.info.run_id, where

    def find(self, experiment_id: str, uuid: str) -> MlflowRun | None:
        found = self.client.search_runs([experiment_id], f"tags.`{UUID}` = '{uuid}'", max_results=1)
        return found[0] if found else None

    def metrics(self, ops: list[Op], run_id: str) -> None:
        points = [Metric(key, value, op["t"], op["step"]) for op in ops for key, value in op["values"].items()]
        for start in range(0, len(points), GROUP):
            self.client.log_batch(run_id, metrics=points[start : start + GROUP])

    def params(self, op: Op, state: State) -> None:
        """A param that has another value already cannot change: the new value becomes a tag."""
        present = self.client.get_run(state["run_id"]).data.params
        new = [Param(key, value) for key, value in op["params"].items() if key not in present]
        for start in range(0, len(new), SMALL_GROUP):
            self.client.log_batch(state["run_id"], params=new[start : start + SMALL_GROUP])
        changed = {key: value for key, value in op["params"].items() if present.get(key, value) != value}
        self.set_tags(state["run_id"], changed)

    def tags(self, op: Op, state: State) -> None:
        self.set_tags(state["run_id"], op["tags"])

    def set_tags(self, run_id: str, values: dict[str, str]) -> None:
        tags = [RunTag(key, value) for key, value in values.items()]
        for start in range(0, len(tags), SMALL_GROUP):
            self.client.log_batch(run_id, tags=tags[start : start + SMALL_GROUP])

    def input(self, op: Op, state: State) -> None:
        source, profile = json.dumps({"uri": op["source"]}), json.dumps(op["profile"])
        dataset = Dataset(op["name"], op["digest"], "local", source, profile=profile)
        context = InputTag("mlflow.data.context", op["context"])
        self.client.log_inputs(state["run_id"], [DatasetInput(dataset, [context])])

    def artifact(self, op: Op, state: State) -> None:
        path, to = self.folder / op["path"], op["to"] or None
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        send(state["run_id"], str(path), to)

    def model(self, op: Op, state: State) -> None:
        state["results"][op["uuid"]] = registry.send_model(self.client, self.folder, op, state)

    def register(self, op: Op, state: State) -> None:
        model = state["results"][op["model"]]
        state["results"][op["uuid"]] = registry.send_version(self.client, op, model_id=model, run_id=state["run_id"])

    def continued(self, op: Op, state: State) -> None:
        """A run that `mlflow run` made to continue this one: it says so, and shows as a child of it."""
        if self.active(op["run"]) is None:  # of another server
            return
        page = f"#/experiments/{state['experiment_id']}/runs/{state['run_id']}?workflowType=machine_learning"
        note = f"Continued an earlier run, where all its numbers are: [{op['name']}]({page})."
        tags = {"vlx.continues": state["run_id"], "mlflow.parentRunId": state["run_id"], "mlflow.note.content": note}
        self.set_tags(op["run"], tags)
        self.client.update_run(op["run"], name=f"{op['name']} (continued)")

    def status(self, op: Op, state: State) -> None:
        running = op["status"] == "RUNNING"
        also = op["also"] if op["also"] and self.active(op["also"]) else ""
        for run_id in filter(None, (state["run_id"], also)):
            self.set_tags(run_id, {store.ENDED: "" if running else op["status"]})
            if running:
                self.client.update_run(run_id, status="RUNNING")
            else:
                self.client.set_terminated(run_id, op["status"], end_time=op["t"])
