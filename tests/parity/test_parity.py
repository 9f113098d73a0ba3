"""vlx computes what the originals' own code computed. Every number comes from the case's files."""

import importlib
from pathlib import Path

import pytest

ADAPTERS = Path(__file__).parent / "adapters"


def test_case_gives_the_originals_numbers(case: Path, family: str, topic: str) -> None:
    adapters = [name for name in (f"{family}_{topic}", family) if (ADAPTERS / f"{name}.py").is_file()]
    if not adapters:
        pytest.fail(f"{case.name}: no adapter yet for {family} ({topic})")
    importlib.import_module(f"tests.parity.adapters.{adapters[0]}").check(case)
