"""Every test: no network beyond this machine, its own working directory, a tracking store of its own session."""

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch, mlflow or vlx are imported.
STORE = tempfile.TemporaryDirectory(prefix="vlx-tests-")
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{STORE.name}/mlflow.db"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ.setdefault("MPLBACKEND", "Agg")
for inherited in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"):
    os.environ.pop(inherited, None)

# A background job of a script ignores these, and so would every process that a test starts.
for kind in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(kind) == signal.SIG_IGN:
        signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)

import pytest  # noqa: E402

import vlx  # noqa: E402, F401  its defaults keep mlflow and transformers offline and quiet

ROOT = Path(__file__).resolve().parents[1]
LOCAL = {"", "127.0.0.1", "::1", "0.0.0.0", "localhost", socket.gethostname()}
OUTGOING = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}  # where the host is


class NetworkUsed(RuntimeError):
    """A test reached beyond this machine."""


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in OUTGOING:
        target = arguments[OUTGOING[event]]
        host = target[0] if isinstance(target, tuple) else target
        if event != "socket.getaddrinfo" and not isinstance(target, tuple):
            return  # a unix socket is named by a path
        host = host.decode() if isinstance(host, bytes) else host
        if host is not None and host not in LOCAL:
            raise NetworkUsed(f"{event} to {target}: tests use no network beyond 127.0.0.1")


sys.addaudithook(refuse_network)


def pytest_unconfigure() -> None:
    STORE.cleanup()


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test writes by a relative path (./mlruns, ./outputs) lands in its own folder."""
    monkeypatch.chdir(tmp_path)
    yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real corpora in official formats, which the project does not ship."""
    folder = Path(os.environ.get("VLX_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real corpora in {folder}; VLX_DATA_DIR names their folder")
    return folder
