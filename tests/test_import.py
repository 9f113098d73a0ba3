"""`import vlx` is light, sets defaults of the environment, and runs hooks after later imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlx.import_hook import after_import

HEAVY = {"asyncio", "mlflow", "torch", "transformers"}
POLICY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
REPORT = f"""import os, sys, vlx
print(*map(os.environ.get, {POLICY}), *{HEAVY}.intersection(sys.modules))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["passive", "2000"]),
        ({"GOMP_SPINCOUNT": "5"}, ["passive", "5"]),
        ({"OMP_WAIT_POLICY": "active"}, ["active", "None"]),
    ],
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    root: Path, given: dict[str, str], expected: list[str]
) -> None:
    """And nothing heavy is imported."""
    inherited = {name: value for name, value in os.environ.items() if name not in POLICY}
    environment = inherited | {"PYTHONPATH": str(root)} | given
    done = subprocess.run([sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_an_action_runs_once_after_the_import_of_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "vlx_test_module_to_import"
    (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    values = []
    after_import(name, lambda: values.append(sys.modules[name].value))
    assert values == [], "the module is not imported yet"
    for _ in range(2):
        monkeypatch.delitem(sys.modules, name, raising=False)
        __import__(name)
    assert values == [1]


def test_an_action_runs_at_once_if_its_module_is_imported_already() -> None:
    calls = []
    after_import("os", lambda: calls.append("os"))
    assert calls == ["os"]
