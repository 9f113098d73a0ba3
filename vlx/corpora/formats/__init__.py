"""The official formats, and the one way from any of them to a corpus."""

from pathlib import Path
from types import ModuleType

from vlx.corpora.formats import nlvr, nlvr2
from vlx.corpora.formats.files import describe
from vlx.corpora.store import Corpus, CorpusWriter
from vlx.errors import CorpusError

# Each has find(folder) -> role -> official file or folder, and read(files, writer) -> the detector's name.
FORMATS: dict[str, ModuleType] = {"nlvr2": nlvr2, "nlvr": nlvr}


def find(format: str, source: Path | str) -> dict[str, Path]:
    """The official files of a format in the folder `source`, by role."""
    if format not in FORMATS:
        raise CorpusError(f"format {format}: expected one of {', '.join(FORMATS)}.")
    if not Path(source).is_dir():
        raise CorpusError(f"{source}: no such folder. Point source at the folder of the official {format} files.")
    return FORMATS[format].find(Path(source))


def prepare(format: str, source: Path | str, out: Path | str) -> Corpus:
    """Turn the official files of a format into the corpus `out`, which must not be there. May be killed and redone."""
    files = find(format, source)
    try:
        with CorpusWriter(out) as writer:
            detector = FORMATS[format].read(files, writer)
            noted = [describe(path, Path(source)) for path in files.values()]
            writer.commit(reader=format, detector=detector, source=noted)
    except OSError as error:
        raise CorpusError(f"{error.filename or out}: {error.strerror or error}.") from error
    return Corpus(out)
