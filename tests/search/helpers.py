"""What a search has left: its runs in MLflow and the table of its trials."""

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from vlx.tracking import store


def runs(client: MlflowClient) -> tuple[Run, list[Run]]:
    """The run of the search, and all further runs by their start."""
    entries = client.search_runs([store.experiment_id(client)], order_by=["attributes.start_time"])
    (parent,) = [run for run in entries if run.info.run_name == "search of distill"]
    return parent, [run for run in entries if run is not parent]


def table(folder: Path = Path("outputs")) -> list[dict[str, Any]]:
    """The trials of the only study below the folder."""
    (path,) = folder.glob("studies/*/artifacts/trials.table.json")
    content = json.loads(path.read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
