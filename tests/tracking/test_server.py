"""A real tracking server that is not there yet, is killed, and comes back."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from vlx import tracking
from vlx.preprocessing import Preprocessing

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(migrated: Path, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Start or restart the server on its port; return its address once it answers."""
    database = shutil.copy(migrated, tmp_path / "server.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def stop() -> None:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        running.clear()

    def start() -> str:
        stop()
        command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{database}"]
        command += ["--artifacts-destination", str(tmp_path / "served")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (tmp_path / "server.log").open("ab") as log:
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    return f"http://127.0.0.1:{port}"
            except OSError:
                time.sleep(0.3)
        raise TimeoutError((tmp_path / "server.log").read_text()[-2000:])

    start.stop, start.uri = stop, f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]
    yield start
    stop()


def test_no_metric_is_lost_or_doubled_by_a_server_dead_at_the_start_killed_in_the_middle_and_at_the_end(
    launch: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", launch.uri)
    with tracking.run(options(), name="r", description="", folder=tmp_path / "run") as run:
        assert run.id == run.uuid
        for step in range(900):
            if step == 300:
                launch()
                assert run.uploader.flush(60) or run.uploader.flush(60)
                run_id = run.id
            if step == 600:
                launch.stop()
            run.log_metrics({f"m{number}": step + number for number in range(3)}, step=step)
        run.log_text("# card", "model_card.md")
    launch()
    assert tracking.sync(tmp_path / "run") == 1
    client = MlflowClient(launch.uri)
    logged = client.get_run(run_id)
    for number in range(3):
        points = client.get_metric_history(run_id, f"m{number}")
        assert sorted((point.step, point.value) for point in points) == [(s, s + number) for s in range(900)]
    assert logged.info.status == "FINISHED" and logged.info.run_name == "r"
    assert [file.path for file in client.list_artifacts(run_id)] == ["config.json", "model_card.md"]
    assert tracking.links(run)[0].startswith(f"{launch.uri}/#/experiments/")


def test_a_server_gives_the_same_registry_as_a_database(
    launch: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", launch())
    model = tmp_path / "model"
    model.mkdir()
    Preprocessing(architecture="oscar", max_text_tokens=16, num_images=2).save(model)
    with tracking.run(options(note=""), name="r", description="", folder=tmp_path / "run") as run:
        run.log_metrics({"nan": float("nan"), "inf": float("inf")}, step=0)
        for step, score in ((1, 0.7), (2, 0.8)):
            (model / "weights").write_text(str(score))
            run.log_model(model, name="student", task="nlvr2", metrics={"test/accuracy": score}, step=step)
            tags = {"val/accuracy": score, "task": "nlvr2", "split": "dev", "data_fingerprint": "f"}
            assert run.register("s", tags=tags) == str(step)
            assert tracking.promote("s").moved
    assert (tracking.download("models:/s@champion") / "weights").read_text() == "0.8"
    assert tracking.rollback("s").moved and tracking.resolve("models:/s@champion") == "models:/s/1"
    assert (tracking.download("models:/s@champion") / "weights").read_text() == "0.7"
    client = MlflowClient(launch.uri)
    assert client.get_run(run.id).data.params["config/note"] == ""
    assert {point.step for point in client.get_metric_history(run.id, "test/accuracy")} == {1, 2}
