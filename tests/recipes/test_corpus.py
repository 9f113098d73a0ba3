import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files import names_of, nlvr2_rows, png, write_nlvr, write_nlvr2, write_tar
from vlx import corpora, synthetic
from vlx.errors import CorpusError
from vlx.recipes.corpus import fetch_corpus

SMALL = {"size": 20, "seed": 0, "difficulty": "normal"}


def fetch(task: str = "nlvr2", corpus: str = "synthetic", source: str | Path = "", **options: object) -> corpora.Corpus:
    return fetch_corpus(task, corpus, str(source), Path("outputs"), **(SMALL | options))


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever prepares from here on fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("prepared again")

    monkeypatch.setattr(synthetic, "build", fail)
    monkeypatch.setattr(corpora, "prepare", fail)


def test_the_built_in_corpus_is_made_once_and_kept_under_the_work_folder(request: pytest.FixtureRequest) -> None:
    first = fetch()
    assert first.path.parent == Path("outputs/corpora") and first.path.name.startswith("synthetic-")
    request.getfixturevalue("once")
    assert fetch().fingerprint == first.fingerprint


def test_of_two_that_need_the_same_corpus_one_makes_it_and_the_other_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    made, build = [], synthetic.build

    def slow(out: Path, **options: Any) -> corpora.Corpus:
        made.append(out)
        time.sleep(0.2)
        return build(out, **options)

    monkeypatch.setattr(synthetic, "build", slow)
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(lambda _: fetch(), range(2))
    assert one.fingerprint == other.fingerprint and made == [one.path]


def test_every_parameter_of_the_built_in_corpus_has_its_own_folder() -> None:
    wishes = ({}, {"seed": 1}, {"size": 24}, {"difficulty": "easy"})
    assert len({fetch(**wish).path for wish in wishes}) == 4


@pytest.mark.parametrize(("task", "write"), [("nlvr2", write_nlvr2), ("nlvr", write_nlvr)])
def test_official_files_are_prepared_once(task: str, write: object, request: pytest.FixtureRequest) -> None:
    Path("official").mkdir()
    first = fetch(task, source=write(Path("official")))  # type: ignore[operator]
    assert first.path.name.startswith(f"{task}-") and first.manifest["reader"] == task
    request.getfixturevalue("once")
    assert fetch(task, source="official").path == first.path


@pytest.mark.parametrize("change", ["text", "time", "added"])
def test_changed_official_files_are_prepared_again(change: str) -> None:
    Path("official").mkdir()
    first = fetch(source=write_nlvr2(Path("official")))
    if change == "text":
        path = Path("official/dev.json")
        path.write_text(path.read_text().replace("dog", "camel"))
    elif change == "time":
        os.utime("official/dev.json", (1, 1))
    else:
        pictures = [name for split in ("train", "dev", "test1") for name in names_of(nlvr2_rows(split))]
        write_tar(Path("official/images.tar"), {f"{name}.png": png((9, 9)) for name in pictures})
    second = fetch(source="official")
    assert second.path != first.path and (second.fingerprint == first.fingerprint) == (change == "time")


def test_a_prepared_folder_is_opened_where_it_is() -> None:
    built = synthetic.build("mine", size=20)
    assert fetch(corpus="mine").path == Path("mine") and fetch(corpus="mine").fingerprint == built.fingerprint
    with pytest.raises(CorpusError, match="no examples of task nlvr; it holds nlvr2"):
        fetch("nlvr", corpus="mine")
    with pytest.raises(CorpusError, match="nowhere: no manifest.json"):
        fetch(corpus="nowhere")


def test_a_task_without_built_in_corpus_says_what_to_give() -> None:
    with pytest.raises(CorpusError, match="task captions: no built-in corpus. Give --source="):
        fetch("captions")


def test_a_damaged_kept_corpus_is_named_and_not_used() -> None:
    path = fetch().path
    os.truncate(path / "features.npy", 200)
    with pytest.raises(CorpusError, match="features.npy: found 200 bytes"):
        fetch()


def test_a_source_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CorpusError, match="nowhere"):
        fetch(source="nowhere")
    assert not Path("outputs").exists()
