"""Image files in folders and uncompressed tars, found by name and read one at a time."""

import re
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vlx.corpora.formats.folders import files_under
from vlx.errors import CorpusError

SUFFIXES = {".png", ".jpg", ".jpeg"}
COCO_NAME = re.compile(r"COCO_[a-z]+\d{4}_0*(\d+)")  # COCO_val2014_000000000042: official annotations write 42


class Location(NamedTuple):
    """Bytes of an image: a file, or a part of a tar."""

    path: Path
    offset: int
    length: int


class ImageFiles:
    """The image files of some folders and tars, by file name without suffix."""

    def __init__(self, *sources: Path, coco_numbers: bool = True, cache_size: int = 0) -> None:
        """Folders are read with all their sub-folders. Raises CorpusError if two images have the same name.

        coco_numbers: COCO_val2014_000000000042 is also found as 42, which may be another image in Visual Genome.
        cache_size: decoded images in memory, for identical files that follow each other.
        """
        self.decode = lru_cache(maxsize=cache_size)(decode)
        self.name_of = coco_number if coco_numbers else str
        self.sources = " and ".join(map(str, sources))
        self.locations: dict[str, Location] = {}
        for source in sources:
            for path, location in locations(source):
                if path.suffix.lower() in SUFFIXES:
                    name = self.name_of(path.stem)
                    if name in self.locations:
                        raise CorpusError(f"{source}: two images are named {path.stem}, expected one. Remove one.")
                    self.locations[name] = location

    def __contains__(self, name: str) -> bool:
        return self.name_of(name) in self.locations

    def read(self, name: str, where: str) -> tuple[bytes, Image.Image]:
        """The file's bytes and the decoded RGB image. where: the record that names the image, for the error."""
        if name not in self:
            raise CorpusError(f"{where}: image {name} is not in {self.sources} ({len(self.locations):,} images).")
        location = self.locations[self.name_of(name)]
        with location.path.open("rb") as file:
            file.seek(location.offset)
            data = file.read(location.length)
        try:
            return data, self.decode(data)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise CorpusError(f"{location.path}: image {name} cannot be decoded ({error}). Get it again.") from None


def decode(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def coco_number(name: str) -> str:
    """42 for COCO_val2014_000000000042; any other name unchanged."""
    match = COCO_NAME.fullmatch(name)
    return match[1] if match else name


def locations(source: Path) -> Iterator[tuple[Path, Location]]:
    """(name, location) of every file in a folder or a tar."""
    if source.is_dir():
        yield from ((path, Location(path, 0, path.stat().st_size)) for path in files_under([source]))
        return
    try:
        with tarfile.open(source, "r:") as archive:
            for entry in filter(tarfile.TarInfo.isreg, archive):
                yield Path(entry.name), Location(source, entry.offset_data, entry.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CorpusError(f"{source}: not a whole uncompressed tar ({error}). Get it again.") from None
