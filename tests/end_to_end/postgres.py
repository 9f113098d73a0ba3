"""A PostgreSQL server of a test's own, from the system's binaries."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

DRIVERS = {"psycopg2": "postgresql+psycopg2", "psycopg": "postgresql+psycopg"}
USER = "vlx"


def binaries() -> Path:
    """The folder of initdb and postgres, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *([Path(found).resolve().parent] if found else [])]
    folders = [folder for folder in folders if all((folder / name).exists() for name in ("initdb", "postgres", "psql"))]
    if not folders:
        pytest.skip("no PostgreSQL here (apt-get install postgresql)")
    return folders[-1]


@contextmanager
def running() -> Iterator[str]:
    """The URL of a server without its database's name; stopped and removed at the end."""
    tools, drivers = binaries(), [scheme for name, scheme in DRIVERS.items() if find_spec(name)]
    if not drivers:
        pytest.skip(f"no driver of PostgreSQL in this environment: {' or '.join(DRIVERS)}")
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="vlx-postgres-"))
    if owner:
        shutil.chown(folder, **owner)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = [tools / "initdb", "-D", folder / "data", "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder, **owner)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log:
        serve = [tools / "postgres", "-D", folder / "data", "-p", str(port), *options]
        server = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder, **owner)
    try:
        for name in ("study", "mlflow"):
            create = [tools / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-d", "postgres", "-c"]
            retry(create + [f"create database {name}"], server)
        yield f"{drivers[0]}://{USER}@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)  # at once, whoever is connected
        server.wait()
        shutil.rmtree(folder)


def retry(command: list[object], server: subprocess.Popen[bytes]) -> None:
    """Until the server answers."""
    for _ in range(100):
        assert server.poll() is None, "the server ended"
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError("the server does not answer")
