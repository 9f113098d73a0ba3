"""One test a golden case, marked with its topics. Topics that are not delivered run only if they are named."""

import json
import os
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "parity"
# The topics that `make test` runs; a topic joins with the work that delivers it.
DELIVERED = ["main", "formats", "models", "tasks", "distill", "pretrain"]


def root() -> Path:
    """VLX_PARITY_DIR, or the vectors of the shared folder, or the small subset in this folder."""
    if os.environ.get("VLX_PARITY_DIR"):
        return Path(os.environ["VLX_PARITY_DIR"]).resolve()  # before a test changes the directory
    return SHARED if SHARED.is_dir() else HERE / "vectors"


ROOT = root()
TOPICS: dict[str, list[str]] = json.loads((ROOT / "cases.json").read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case of two topics is two tests, one for each topic's adapter."""
    if "case" not in metafunc.fixturenames:
        return
    metafunc.parametrize(
        ("case", "family", "topic"),
        [
            pytest.param(
                ROOT / case, case.split("/")[0], topic, id=f"{topic}-{case}", marks=getattr(pytest.mark, topic)
            )
            for topic, cases in TOPICS.items()
            for case in cases
        ],
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = set(re.findall(r"\w+", config.getoption("markexpr") or "")) & set(TOPICS)
    chosen = named or set(DELIVERED)
    cases = [item for item in items if "case" in getattr(item, "fixturenames", ())]
    dropped = [item for item in cases if not chosen & {mark.name for mark in item.iter_markers()}]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
