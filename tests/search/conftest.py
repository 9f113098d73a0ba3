"""An MLflow store of each test's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from vlx.tracking import store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def server(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(autouse=True)
def optuna_log_level() -> Iterator[None]:
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)
