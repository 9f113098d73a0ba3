"""What the pages of docs/ say is run."""

import re
import shlex
from pathlib import Path

import pytest

from vlx import config, corpora
from vlx.corpora import Example


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def own(root: Path) -> Path:
    return root / "docs" / "bring-your-own.md"


def test_the_page_of_ones_own_data_makes_a_corpus_in_under_20_lines(own: Path) -> None:
    (block,) = blocks(own, "python")
    assert len(block.splitlines()) < 20
    named: dict[str, corpora.Corpus] = {}
    exec(compile(block, str(own), "exec"), named)
    corpus = corpora.open("my-corpus")
    assert corpus.fingerprint == named["corpus"].fingerprint and corpus.region_dim == 2048
    assert corpus.manifest["examples"] == {"vqa_rad": {"train": 2, "val": 1, "test": 1}}
    rows = {row["identifier"]: row for split in corpus.splits("vqa_rad") for row in corpus.examples("vqa_rad", split)}
    assert rows["2"] == Example("2", "Which animal is it?", ["owl-03"], ["owl"], [1.0], category="open")._asdict()
    features, boxes = corpus.regions("owl-03")
    assert features.shape == (36, 2048) and (boxes[:, :2] <= boxes[:, 2:]).all()
    assert [finding for finding in corpora.validate.validate(corpus) if finding.serious] == []


def test_its_commands_name_entry_points_and_options(own: Path) -> None:
    (block,) = blocks(own, "sh")
    for words in map(shlex.split, block.splitlines()):
        assert words[:4] == ["mlflow", "run", ".", "-e"]
        given = [words[at + 1] for at, word in enumerate(words) if word == "-P"]
        config.parse(config.VERBS[words[4]], [f"--{pair}" for pair in given])


def test_the_readme_links_every_page(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (root / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []
