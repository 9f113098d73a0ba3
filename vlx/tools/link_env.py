"""Let a bare `mlflow run` use this virtual environment, on a machine with neither conda nor pyenv.

MLflow looks for a project's environment under MLFLOW_ENV_ROOT (~/.mlflow/envs), by a name made of the Python version
and the requirements; what it finds there it activates as it is. So a link of that name is put there. The name comes
from private functions of MLflow: MLflow is pinned, and a test runs the bare command.
"""

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

from vlx.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
RECORD = ".linked"  # in the environment: what the link was made from, and where it is


def ensure(project: Path, environment: Path) -> bool:
    """Make the link unless it is there and right; True if it was made."""
    inputs, record = fingerprint(project), environment / RECORD
    if record.is_file():
        made_from, _, link = record.read_text(encoding="utf-8").partition(" ")
        if made_from == inputs and points_to(Path(link), environment):
            return False
    link_path = place(project)
    put(link_path, environment)
    record.write_text(f"{inputs} {link_path}", encoding="utf-8")
    return True


def fingerprint(project: Path) -> str:
    """Changes whenever the link's place may change; importing MLflow for the place itself takes seconds."""
    words = [sys.version, version("mlflow"), os.environ.get("MLFLOW_ENV_ROOT", ""), str(Path.home())]
    words += [(project / name).read_text(encoding="utf-8") for name in ("python_env.yaml", "requirements.txt")]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def place(project: Path) -> Path:
    """Where MLflow looks for the environment of `project`."""
    from mlflow.utils.environment import _PythonEnv
    from mlflow.utils.virtualenv import _get_mlflow_virtualenv_root, _get_virtualenv_name

    wanted = _PythonEnv.from_yaml(str(project / "python_env.yaml"))
    return Path(_get_mlflow_virtualenv_root()) / _get_virtualenv_name(wanted, project)


def put(link: Path, environment: Path) -> None:
    """Point `link` at `environment` in one step, also if it is stale or dangling."""
    if not (environment / "bin" / "activate").is_file():
        raise UserError(f"{environment}: not a virtual environment (no bin/activate); run make setup.")
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: a real folder where vlx puts a link to {environment}; remove or rename it.")
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    fresh.symlink_to(environment)
    os.replace(fresh, link)


def points_to(link: Path, environment: Path) -> bool:
    return link.is_symlink() and link.resolve() == environment.resolve()


def main() -> None:
    try:
        ensure(PROJECT, Path(sys.prefix))
    except UserError as error:
        sys.stderr.write(f"vlx: {error}\n")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
