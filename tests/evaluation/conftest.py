"""A folder with a corpus of statements and a corpus of captions."""

from pathlib import Path

import pytest

from tests.training.toy import write_corpus
from vlx import synthetic


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation")
    write_corpus(path / "corpus")
    synthetic.build(path / "captions", task="retrieval", size=40)
    return path
