"""The project holds to its own rules: one set of pins, declared options, floors, sizes."""

import ast
import dataclasses
import importlib
import importlib.util
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlx import config
from vlx.errors import UserError
from vlx.tools import link_env, ui

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # from the ground up: a module imports from its own floor and those below
    {"vlx", "batch", "boxes", "errors", "files", "import_hook", "registry"},
    {"config", "preprocessing", "progress", "tokenization", "workspace"},
    {"models", "objectives"},
    {"corpora", "tracking"},
    {"checkpoints", "synthetic", "tasks"},
    {"inputs", "training"},
    {"evaluation"},
    {"recipes"},
    {"api", "search", "serving"},
    {"tools", "entrypoints"},
)
OWNERS = {
    "mlflow": {"tracking", "serving.py", "tools/link_env.py"},
    "accelerate": {"evaluation", "training"},
    "optuna": {"search"},
}
BESIDES_PYTHON = {"PIL": "Pillow", "yaml": "PyYAML"}  # imported by another name than installed
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:root|work|home/\w+|Users/\w+)/")


def sources() -> list[Path]:
    return sorted([*ROOT.glob("vlx/**/*.py"), *ROOT.glob("entrypoints/*.py")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}:{node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor_of(part: str) -> int:
    for floor, parts in enumerate(FLOORS):
        if part in parts:
            return floor
    raise AssertionError(f"{part}: on no floor; name its floor in {Path(__file__).name}")


def part_of(path: Path) -> str:
    """corpora of vlx/corpora/store.py, config of vlx/config.py, vlx of vlx/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "entrypoints" or parts[1] == "__init__" else parts[1]


def imported_part(dotted: str) -> str:
    """The same for an imported name: config of vlx.config.parse, vlx of vlx.__version__."""
    second = dotted.split(".")[1]
    here = ROOT / "vlx" / second
    return second if here.is_dir() or here.with_suffix(".py").is_file() else "vlx"


def pins(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def mlproject() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))


def test_every_dependency_is_pinned_exactly() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins(ROOT / name)), name


def test_requirements_conda_python_env_and_pyproject_hold_the_same_pins() -> None:
    runtime, dev, project = pins(ROOT / "requirements.txt"), pins(ROOT / "requirements-dev.txt"), pyproject()
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    assert conda == ["python=3.11", "pip", {"pip": runtime}]
    python_env = yaml.safe_load((ROOT / "python_env.yaml").read_text(encoding="utf-8"))
    assert python_env == {"dependencies": ["-r requirements.txt"]}
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert project["project"]["optional-dependencies"]["dev"] == dev


def test_what_the_source_imports_is_pinned() -> None:
    pinned = {pin.split("==")[0] for pin in pins(ROOT / "requirements.txt")}
    tops = {dotted.split(".")[0] for path in sources() for dotted in imports(path)}
    extras = [pin.split("==")[0].replace("-", "_") for pin in pyproject()["project"]["optional-dependencies"]["photos"]]
    foreign = tops - set(sys.stdlib_module_names) - {"vlx", "entrypoints", *extras}
    assert {BESIDES_PYTHON.get(name, name) for name in foreign} <= pinned


def test_the_experiment_provider_that_pyproject_names_is_one() -> None:
    target = pyproject()["project"]["entry-points"]["mlflow.default_experiment_provider"]["vlx"]
    module, _, name = target.partition(":")
    provider = getattr(importlib.import_module(module), name)()
    assert callable(provider.in_context) and callable(provider.get_experiment_id)


def test_declared_parameters_are_options_with_the_same_defaults() -> None:
    entries = mlproject()["entry_points"]
    assert set(entries) == set(config.VERBS)
    for verb, schema in config.VERBS.items():
        defaults = {spec.name: spec.default for spec in dataclasses.fields(schema)}
        declared = {key: what["default"] for key, what in entries[verb]["parameters"].items()}
        assert declared == {key: defaults.get(key, "no such option") for key in declared}, verb


def test_commands_pass_every_declared_parameter_with_an_equals_sign() -> None:
    for verb, entry in mlproject()["entry_points"].items():
        options = " ".join(f"--{key}={{{key}}}" for key in entry["parameters"])
        assert entry["command"] == f"python entrypoints/{verb}.py {options}"


def test_no_preset_sets_what_mlproject_always_passes() -> None:
    for preset in ROOT.glob("vlx/presets/**/*.yaml"):
        verb = preset.stem.rsplit("-", 1)[1].replace("tiny", "pretrain")
        declared = set(mlproject()["entry_points"][verb]["parameters"]) - {"task"}
        assert not declared & set(yaml.safe_load(preset.read_text(encoding="utf-8"))), preset.name


def test_every_verb_has_an_entry_script_under_60_lines() -> None:
    scripts = {path.stem: path for path in ROOT.glob("entrypoints/*.py")}
    assert set(scripts) == set(config.VERBS)
    assert [name for name, path in scripts.items() if len(path.read_text(encoding="utf-8").splitlines()) >= 60] == []


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, not comment, not docstring."""
    text = path.read_text(encoding="utf-8")
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(text.splitlines(), start=1)
    return sum(n not in documented and bool(line.strip()) and not line.strip().startswith("#") for n, line in lines)


def test_files_are_under_400_lines_and_the_code_of_all_under_15500() -> None:
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: count for name, count in lines.items() if count >= 400} == {}
    assert sum(code_lines(path) for path in sources()) < 15_500


def test_functions_have_at_most_60_lines() -> None:
    long = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                long += [f"{name_of(path)}:{node.name} has {length}"] if length > 60 else []
    assert long == []


def test_no_import_runs_up() -> None:
    upward = []
    for path in sources():
        for dotted in imports(path):
            if dotted.startswith("entrypoints") or dotted.split(".")[0] == "vlx":
                target = "entrypoints" if dotted.startswith("entrypoints") else imported_part(dotted)
                if floor_of(target) > floor_of(part_of(path)):
                    upward.append(f"{name_of(path)} imports {dotted}")
    assert upward == []


def test_models_objectives_tasks_and_corpora_know_nothing_of_tracking() -> None:
    below = [path for path in sources() if part_of(path) in {"models", "objectives", "tasks", "corpora"}]
    assert [name_of(path) for path in below if any(name.startswith("vlx.tracking") for name in imports(path))] == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library: str) -> None:
    users = [path for path in sources() if any(name.split(".")[0] == library for name in imports(path))]
    inside = [path.relative_to(ROOT / "vlx").as_posix() for path in users if path.is_relative_to(ROOT / "vlx")]
    assert len(inside) == len(users), "an entry script imports it"
    strangers = [name for name in inside if not {name, name.split("/")[0]} & OWNERS[library]]
    assert strangers == []


def imported_names() -> list[tuple[str, str, str]]:
    """(file, module, name) of every import from vlx outside the product: benchmarks, tests, notebooks."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for top in ("benchmarks", "tests")
        for path in ROOT.glob(f"{top}/**/*.py")
    }
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        texts[path] = re.sub(r"(?m)^[%!].*", "", "\n".join("".join(cell["source"]) for cell in cells))
    return [
        (name_of(path), node.module, alias.name)
        for path, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("vlx", "entrypoints")
        for alias in node.names
    ]  # fmt: skip


def test_benchmarks_tests_and_notebooks_import_what_exists() -> None:
    names = imported_names()
    missing = [
        f"{file}: {module}.{name}"
        for file, module, name in names
        if not hasattr(importlib.import_module(module), name) and not importlib.util.find_spec(f"{module}.{name}")
    ]
    assert len(names) > 500 and not missing


def test_nothing_names_a_folder_of_one_machine() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        text = path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""
        found += [f"{name}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_tests_cannot_reach_the_network() -> None:
    for host in ("192.0.2.1", "example.org"):
        with pytest.raises(RuntimeError, match="tests use no network"):
            socket.create_connection((host, 80), timeout=1)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a virtual environment, and MLflow's environments under the test's own folder."""
    monkeypatch.setenv("MLFLOW_ENV_ROOT", str(tmp_path / "envs"))
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    return tmp_path / "venv"


def test_linked_environment_is_made_once_and_remade_when_lost(environment: Path) -> None:
    assert link_env.ensure(ROOT, environment)
    (link,) = (environment.parent / "envs").iterdir()
    assert link.is_symlink() and link.resolve() == environment.resolve()
    assert not link_env.ensure(ROOT, environment)
    link.unlink()
    assert link_env.ensure(ROOT, environment)


def test_linked_environment_follows_the_requirements(environment: Path, tmp_path: Path) -> None:
    for name in ("python_env.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    link_env.ensure(tmp_path, environment)
    with (tmp_path / "requirements.txt").open("a", encoding="utf-8") as requirements:
        requirements.write("six==1.17.0\n")
    assert link_env.ensure(tmp_path, environment)
    assert len(list((tmp_path / "envs").iterdir())) == 2


def test_linked_environment_replaces_a_link_to_a_deleted_checkout(environment: Path, tmp_path: Path) -> None:
    link = link_env.link_path(ROOT)
    link.parent.mkdir()
    link.symlink_to(tmp_path / "deleted")
    assert link_env.ensure(ROOT, environment)
    assert link.resolve() == environment.resolve()


def test_linked_environment_refuses_to_replace_a_real_folder(environment: Path) -> None:
    link_env.link_path(ROOT).mkdir(parents=True)
    with pytest.raises(UserError, match="a real folder where vlx puts a link"):
        link_env.ensure(ROOT, environment)


def test_linked_environment_refuses_a_python_outside_a_virtual_environment(environment: Path) -> None:
    (environment / "bin" / "activate").unlink()
    with pytest.raises(UserError, match="run make setup"):
        link_env.ensure(ROOT, environment)


def test_ui_opens_the_experiment_used_last_in_the_machine_learning_pages(tmp_path: Path) -> None:
    assert ui.page(tmp_path / "mlflow.db") == "#/experiments?workflowType=machine_learning"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("create table runs (experiment_id integer, start_time bigint)")
        connection.executemany("insert into runs values (?, ?)", [(1, 300), (2, 500), (3, 400)])
    assert ui.page(tmp_path / "mlflow.db") == "#/experiments/2/runs?workflowType=machine_learning"


def bare_environment(home: Path) -> dict[str, str]:
    """Environment variables of a machine with neither conda nor pyenv, nor anything of MLflow in the home folder."""
    tools = ("conda", "mamba", "pyenv", "uv")
    folders = [
        folder for folder in os.environ["PATH"].split(":") if not any((Path(folder) / tool).exists() for tool in tools)
    ]
    path = ":".join(folder for folder in folders if "pyenv" not in folder)
    kept = {key: value for key, value in os.environ.items() if key in ("LANG", "TMPDIR", "OMP_NUM_THREADS")}
    return {**kept, "PATH": path, "HOME": str(home), "MLFLOW_ENV_ROOT": str(home / "envs")}


@pytest.mark.slow
def test_bare_mlflow_run_works_without_conda_and_pyenv(tmp_path: Path) -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("not in a virtual environment")
    project, variables = tmp_path / "vlx", bare_environment(tmp_path)
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "outputs", "mlflow.db*", "__pycache__"))
    variables["PYTHONPATH"] = str(project)  # the copy's vlx, whatever the environment has installed
    link = [sys.executable, "-m", "vlx.tools.link_env"]
    subprocess.run(link, cwd=project, env=variables, check=True, timeout=120)
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    words = [mlflow, "run", ".", "-e", "prepare", "-P", "corpus_size=20"]
    run = subprocess.run(words, cwd=project, env=variables, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"source {tmp_path / 'envs'}" in run.stderr
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        assert connection.execute("select distinct status from runs").fetchall() == [("FINISHED",)]
