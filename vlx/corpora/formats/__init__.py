"""The official formats, and the one way from any of them to a corpus. A new format is one file and one line here."""

import re
from pathlib import Path

from vlx.corpora import detectors
from vlx.corpora.formats import (
    captions,
    clip_vil,
    gqa,
    lxmert,
    nlvr,
    nlvr2,
    oscar,
    refcoco,
    snli_ve,
    vilbert,
    vilbert_boxes,
    vle,
    vqa,
    vqa_rad,
)
from vlx.corpora.formats.files import Format, describe
from vlx.corpora.store import Corpus
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

FORMATS: dict[str, Format] = {
    **nlvr2.FORMATS,
    **nlvr.FORMATS,
    **lxmert.FORMATS,
    **vqa.FORMATS,
    **gqa.FORMATS,
    **captions.FORMATS,
    **snli_ve.FORMATS,
    **vqa_rad.FORMATS,
    **clip_vil.FORMATS,
    **refcoco.FORMATS,
    **vilbert.FORMATS,
    **vilbert_boxes.FORMATS,
    **vle.FORMATS,
    **oscar.FORMATS,
}


# Both number their pictures, but not the same ones: picture 42 of COCO is not Visual Genome's. LXMERT names them whole.
GENOME = {name for name in FORMATS if "gqa" in name or "genome" in name}
NUMBERED = {name for name in FORMATS if not name.startswith(("lxmert-", "clip-vil-"))} - GENOME
COCO = {name for name in NUMBERED if any(part in name for part in ("vqa", "coco", "retrieval", "guesswhat"))}


def find(format: str, source: Path | str) -> dict[str, Path]:
    """The official files of a format, or of several joined by +, in the folder `source`, by role."""
    unknown = [name for name in names(format) if name not in FORMATS]
    if unknown:
        raise CorpusError(f"format {unknown[0]}: expected some of {', '.join(FORMATS)}, joined by +.")
    if GENOME & set(names(format)) and COCO & set(names(format)):
        raise CorpusError(f"format {format}: COCO and Visual Genome number pictures differently. Prepare them apart.")
    if not Path(source).is_dir():
        raise CorpusError(f"{source}: no such folder. Point source at the folder of the official {format} files.")
    found = [(name, FORMATS[name].find(Path(source))) for name in names(format)]
    return {f"{name} {role}": path for name, files in found for role, path in files.items()}


def names(format: str) -> list[str]:
    """Of the formats that are joined; refcoco+ ends in one itself."""
    return re.split(r"\+(?=[^+])", format)


def prepare(format: str, source: Path | str, out: Path | str, *, dtype: str = "float16", detector: str = "") -> Corpus:
    """Turn the official files of a format into the corpus `out`, which must not be there. May be killed and redone.

    dtype: of the features on disk, float16 or float32. detector: finds regions in pictures that come without
    (detectors.load); empty: a corpus of pictures alone.
    """
    files = find(format, source)
    try:
        detect = detectors.load(detector) if detector else None
        with CorpusWriter(out, dtype=dtype, detect=detect) as writer:
            for name in names(format):
                own = {
                    role.removeprefix(f"{name} "): path for role, path in files.items() if role.startswith(f"{name} ")
                }
                found = FORMATS[name].read(own, writer)
            noted = [describe(path, Path(source)) for path in dict.fromkeys(files.values())]
            used = detector if found == "none" and writer.regions else found
            writer.commit(reader=format, detector=used, source=noted)
    except OSError as error:
        raise CorpusError(f"{error.filename or out}: {error.strerror or error}.") from error
    return Corpus(out)
