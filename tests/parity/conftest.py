"""One test a golden case, marked with its topics. Topics not delivered yet run only when asked for by name."""

import json
import os
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BESIDE = HERE.parents[2] / "shared" / "parity"
DELIVERED = ["main"]  # the topics that `make test` runs; a topic joins with the work that delivers it


def root() -> Path:
    """VLX_PARITY_DIR, or the vectors beside the project, or the small subset kept here."""
    if os.environ.get("VLX_PARITY_DIR"):
        return Path(os.environ["VLX_PARITY_DIR"])
    return BESIDE if BESIDE.is_dir() else HERE / "vectors"


TOPICS: dict[str, list[str]] = json.loads((root() / "cases.json").read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    topics: dict[str, list[str]] = {}
    for topic, cases in TOPICS.items():
        for case in cases:
            topics.setdefault(case, []).append(topic)
    marked = [
        pytest.param(root() / case, id=case, marks=[getattr(pytest.mark, topic) for topic in names])
        for case, names in topics.items()
    ]
    metafunc.parametrize("case", marked)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(re.findall(r"\w+", config.getoption("markexpr") or "")) & set(TOPICS)
    chosen = wanted or set(DELIVERED)
    here = [item for item in items if "case" in getattr(item, "fixturenames", ())]
    dropped = [item for item in here if not chosen & {mark.name for mark in item.iter_markers()}]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
