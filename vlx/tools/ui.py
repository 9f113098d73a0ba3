"""Print the link to the runs in MLflow's machine-learning pages, then become the MLflow server."""

import os
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from vlx.errors import UserError

DATABASE = Path("mlflow.db")  # of the working directory
WORKFLOW = "workflowType=machine_learning"  # without it MLflow opens the pages for chat applications


def page(database: Path) -> str:
    """Return the page of the experiment with the newest run, or the list of experiments."""
    if not database.is_file():
        return f"#/experiments?{WORKFLOW}"
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        newest = connection.execute("select experiment_id from runs order by start_time desc limit 1").fetchone()
    return f"#/experiments/{newest[0]}/runs?{WORKFLOW}" if newest else f"#/experiments?{WORKFLOW}"


def check_free(port: int) -> None:
    """Raise UserError if a server answers on the port."""
    with closing(socket.socket()) as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"port {port} of 127.0.0.1 is taken; choose another: make ui PORT={port + 1}.")


def main(port: int) -> None:
    try:
        check_free(port)
    except UserError as error:
        sys.stderr.write(f"vlx: {error}\n")
        raise SystemExit(error.exit_code) from None
    sys.stdout.write(
        f"Runs, once the server is up (10 to 30 s):  http://127.0.0.1:{port}/{page(DATABASE)}\nCtrl-C stops it.\n"
    )
    sys.stdout.flush()
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    store = ["--backend-store-uri", f"sqlite:///{DATABASE}", "--default-artifact-root", "./mlruns"]
    os.execv(mlflow, [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *store])


if __name__ == "__main__":
    main(int(sys.argv[1]))
