"""The official formats (vlx.registry.FORMATS), and the only way from any of them to a corpus."""

import re
from pathlib import Path

from vlx.corpora.formats.folders import source_record
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.store import Corpus
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.registry import FORMATS
from vlx.registry import load as load_spec


def load(name: str) -> Format:
    """The format of that name. Raises CorpusError that lists the names."""
    if name not in FORMATS:
        raise CorpusError(f"format {name}: expected some of {', '.join(FORMATS)}, joined by +.")
    return load_spec(FORMATS, name, kind="format")


def load_joined(name: str) -> dict[str, Format]:
    """Formats by name, of names joined by +; refcoco+ ends in one itself."""
    return {part: load(part) for part in re.split(r"\+(?=[^+])", name)}


def default_format(task: str) -> str:
    """The format that a source of this task has unless the user names another one."""
    if task in FORMATS:
        return task
    return next((name for name in FORMATS if load(name).default_task == task), task)


def find(format: str, source: Path | str) -> Files:
    """The official files in the folder `source`, by format and role; `format`: one, or several joined by +."""
    formats = load_joined(format)
    if {"coco", "visual_genome"} <= {spec.id_space for spec in formats.values()}:
        raise CorpusError(f"format {format}: COCO and Visual Genome number images differently. Prepare them apart.")
    if not Path(source).is_dir():
        raise CorpusError(f"{source}: no such folder. Point source at the folder of the official {format} files.")
    by_format = [(name, spec.find(Path(source))) for name, spec in formats.items()]
    return {f"{name} {role}": path for name, files in by_format for role, path in files.items()}


def prepare(format: str, source: Path | str, out: Path | str, *, dtype: str = "float16", detector: str = "") -> Corpus:
    """Turn the official files of a format into the corpus `out`, which must not exist. May be killed and redone.

    dtype: of the features on disk, float16 or float32. detector: finds regions in images that come without
    (detectors.load); empty: a corpus of images alone.
    """
    from vlx.corpora import detectors  # imports torch

    files = find(format, source)
    try:
        detect = detectors.load(detector) if detector else None
        with CorpusWriter(out, dtype=dtype, detect=detect) as writer:
            for name, spec in load_joined(format).items():
                prefix = f"{name} "
                parts = {role.removeprefix(prefix): files[role] for role in files if role.startswith(prefix)}
                detector_of_files = spec.read(parts, writer)
            sources = [source_record(path, Path(source)) for path in dict.fromkeys(files.values())]
            detected_here = detector_of_files == "none" and writer.regions
            writer.commit(reader=format, detector=detector if detected_here else detector_of_files, source=sources)
    except OSError as error:
        raise CorpusError(f"{error.filename or out}: {error.strerror or error}.") from error
    return Corpus(out)
