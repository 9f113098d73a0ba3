"""One test a golden case, marked with its topics. Topics not delivered yet run only when asked for by name."""

import json
import os
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BESIDE = HERE.parents[2] / "shared" / "parity"
# The topics that `make test` runs; a topic joins with the work that delivers it.
DELIVERED = ["main", "formats", "models", "tasks", "distill", "pretrain"]


def root() -> Path:
    """VLX_PARITY_DIR, or the vectors beside the project, or the small subset kept here."""
    if os.environ.get("VLX_PARITY_DIR"):
        return Path(os.environ["VLX_PARITY_DIR"]).resolve()  # before a test changes the directory
    return BESIDE if BESIDE.is_dir() else HERE / "vectors"


ROOT = root()
TOPICS: dict[str, list[str]] = json.loads((ROOT / "cases.json").read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case of two topics is two tests: each topic asks its own questions of it."""
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
    wanted = set(re.findall(r"\w+", config.getoption("markexpr") or "")) & set(TOPICS)
    chosen = wanted or set(DELIVERED)
    here = [item for item in items if "case" in getattr(item, "fixturenames", ())]
    dropped = [item for item in here if not chosen & {mark.name for mark in item.iter_markers()}]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
