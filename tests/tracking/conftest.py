"""A tracking store of each test's own: a migrated database is made once and copied."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from vlx.tracking import store


@dataclass(frozen=True)
class Options:
    task: str = "nlvr2"
    lr: float = 1e-4
    note: str = ""
    quiet: bool = False


class Server:
    """The database of a test, looked at from outside."""

    def __init__(self, uri: str) -> None:
        self.uri, self.client = uri, MlflowClient(uri)

    @property
    def experiment(self) -> str:
        return store.experiment_id(self.client)

    def runs(self) -> list[MlflowRun]:
        return list(self.client.search_runs([self.experiment], order_by=["attributes.start_time"]))

    def history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(run_id, key)
        return sorted((metric.step, metric.value) for metric in found)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def server(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Server(uri)


@pytest.fixture
def options() -> type[Options]:
    return Options
