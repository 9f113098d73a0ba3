"""Whatever is done to an annotation file, it makes a corpus or a CorpusError of one line; no other end, and no hang."""

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files_official import SOURCES
from vlx import corpora
from vlx.corpora import writer
from vlx.errors import CorpusError

VALUES = [None, "", "x", "\ud800", "🐕", 0, 1, -1, 10**30, 0.5, float("nan"), True, [], {}, [None], [[]], {"a": None}]
GONE = object()
JSON = [format for format, (_, name) in SOURCES.items() if name.endswith(".json")]
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(format: str, source: Path) -> str:
    """What became of a source. What a corpus holds must be whole."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            corpus = corpora.prepare(format, source, Path(folder) / "corpus")
        except CorpusError as error:
            assert "\n" not in str(error), "more than one line"
            assert list(Path(folder).iterdir()) == [], "something half-written is left"
            return "refused"
        known = set(corpus.image_ids())
        for task, splits in corpus.manifest["examples"].items():
            for split in splits:
                for row in corpus.examples(task, split):
                    assert row["text"].strip() and known.issuperset(row["image_ids"]) and row["image_ids"]
                    assert len(row["answers"]) == len(row["scores"])
                    assert all(0 <= x <= 1 for box in row["boxes"] for x in box)
        return "prepared"


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path, Path]:
    """Format, folder and the file to damage."""
    monkeypatch.setattr(writer, "flush", lambda path: None)  # hundreds of corpora that nobody keeps
    write, name = SOURCES[request.param]
    return request.param, write(tmp_path / "official"), tmp_path / "official" / name


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a JSON document."""
    yield path
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place, or with nothing there."""
    holder = {"content": copy.deepcopy(content)}
    at, key = holder, "content"
    for step in path:
        at, key = at[key], step
    if value is GONE:
        del at[key]
    else:
        at[key] = value
    return holder.get("content", 0)


@pytest.mark.parametrize("source", SOURCES, indirect=True)
@few
@given(data=st.data())
def test_any_bytes_end_in_a_corpus_or_an_error(source: tuple[str, Path, Path], data: st.DataObject) -> None:
    format, folder, path = source
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    try:
        path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])
        outcome(format, folder)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("source", JSON, indirect=True)
@few
@given(data=st.data())
def test_any_value_in_the_place_of_another_does_too(source: tuple[str, Path, Path], data: st.DataObject) -> None:
    format, folder, path = source
    whole = path.read_bytes()
    content = json.loads(whole)
    place = data.draw(st.sampled_from(list(places(content))))
    new = changed(content, place, data.draw(st.sampled_from([GONE, *VALUES])))
    try:
        path.write_text(json.dumps(new), encoding="utf-8")
        outcome(format, folder)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("source", JSON, indirect=True)
def test_a_whole_file_makes_a_corpus_and_half_of_it_none(source: tuple[str, Path, Path]) -> None:
    format, folder, path = source
    assert outcome(format, folder) == "prepared"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert outcome(format, folder) == "refused"
