"""A tracking store for each test: a migrated database is made once and copied."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from vlx.tracking import store
from vlx.tracking.journal import Uploader


@dataclass(frozen=True)
class Options:
    task: str = "nlvr2"
    lr: float = 1e-4
    note: str = ""
    quiet: bool = False


class Server:
    """The tracking store of a test: a database in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")

    def take_down(self) -> None:
        """Make every new connection fail until bring_back."""
        self.folder.rename(self.folder.with_suffix(".down"))
        self.folder.touch()  # a file where the folder of the database is expected

    def bring_back(self) -> None:
        self.folder.unlink()
        self.folder.with_suffix(".down").rename(self.folder)

    @property
    def experiment(self) -> str:
        return store.experiment_id(self.client)

    def runs(self) -> list[MlflowRun]:
        return list(self.client.search_runs([self.experiment], order_by=["attributes.start_time"]))

    def history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        return sorted((point.step, point.value) for point in self.client.get_metric_history(run_id, key))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def server(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(migrated, folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return Server(folder)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """An uploader that pauses for milliseconds after a failure."""
    monkeypatch.setattr(Uploader, "poll_seconds", 0.01)


@pytest.fixture
def options() -> type[Options]:
    return Options
