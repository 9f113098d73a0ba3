"""The official formats, and the one way from any of them to a corpus."""

from pathlib import Path
from typing import Protocol

from vlx.corpora.formats import nlvr, nlvr2
from vlx.corpora.formats.files import describe
from vlx.corpora.store import Corpus, CorpusWriter
from vlx.errors import CorpusError


class Format(Protocol):
    """A module of this folder."""

    def sources(self, folder: Path) -> list[Path]:
        """The files and folders that `read` will read; CorpusError if one is missing."""

    def read(self, folder: Path, writer: CorpusWriter) -> str:
        """Write the corpus; returns the detector's name."""


FORMATS: dict[str, Format] = {"nlvr2": nlvr2, "nlvr": nlvr}


def format_of(name: str) -> Format:
    if name not in FORMATS:
        raise CorpusError(f"format {name}: expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def prepare(format: str, source: Path | str, out: Path | str) -> Corpus:
    """Turn the official files of a format into the corpus `out`, which must not be there. May be killed and redone."""
    folder, reader = Path(source), format_of(format)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder. Point source at the folder of the official {format} files.")
    try:
        files = reader.sources(folder)
        with CorpusWriter(out) as writer:
            detector = reader.read(folder, writer)
            writer.commit(reader=format, detector=detector, source=[describe(path, folder) for path in files])
    except OSError as error:
        raise CorpusError(f"{error.filename or out}: {error.strerror or error}.") from error
    return Corpus(out)
