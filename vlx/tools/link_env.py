"""Let a bare `mlflow run` use this virtual environment, on a machine with neither conda nor pyenv.

MLflow looks for a project's environment under MLFLOW_ENV_ROOT (~/.mlflow/envs), by a name made of the Python version
and the requirements, and activates an environment of that name if it exists. This command puts a link of that name
there. The name comes from private functions of MLflow: MLflow is pinned, and a test runs the bare command.
"""

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path

from vlx.errors import UserError
from vlx.files import replacing

PROJECT = Path(__file__).resolve().parents[2]
RECORD = ".linked"  # in the environment: "FINGERPRINT LINK"


def ensure(project: Path, environment: Path) -> bool:
    """Make the link unless it exists and is up to date; return whether it was made."""
    inputs = fingerprint(project)
    record = environment / RECORD
    if record.is_file():
        recorded_inputs, _, recorded_link = record.read_text(encoding="utf-8").partition(" ")
        if recorded_inputs == inputs and points_to(Path(recorded_link), environment):
            return False
    link = link_path(project)
    make_link(link, environment)
    record.write_text(f"{inputs} {link}", encoding="utf-8")
    return True


def fingerprint(project: Path) -> str:
    """Hash what decides the link's path; to compute the path itself, MLflow is imported, which takes seconds."""
    inputs = [sys.version, version("mlflow"), os.environ.get("MLFLOW_ENV_ROOT", ""), str(Path.home())]
    inputs += [(project / name).read_text(encoding="utf-8") for name in ("python_env.yaml", "requirements.txt")]
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()


def link_path(project: Path) -> Path:
    """Return where MLflow looks for the environment of `project`."""
    from mlflow.utils.environment import _PythonEnv
    from mlflow.utils.virtualenv import _get_mlflow_virtualenv_root, _get_virtualenv_name

    python_env = _PythonEnv.from_yaml(str(project / "python_env.yaml"))
    return Path(_get_mlflow_virtualenv_root()) / _get_virtualenv_name(python_env, project)


def make_link(link: Path, environment: Path) -> None:
    """Point `link` at `environment` in one step, even if it is stale or dangling."""
    if not (environment / "bin" / "activate").is_file():
        raise UserError(f"{environment}: not a virtual environment (no bin/activate); run make setup.")
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: a real folder where vlx puts a link to {environment}; remove or rename it.")
    link.parent.mkdir(parents=True, exist_ok=True)
    with replacing(link) as partial:
        partial.symlink_to(environment)


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
