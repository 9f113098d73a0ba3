"""Pictures in folders and uncompressed tars, found by name and read one at a time."""

import re
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image

from vlx.corpora.formats.files import members
from vlx.errors import CorpusError

SUFFIXES = {".png", ".jpg", ".jpeg"}
COCO = re.compile(r"COCO_[a-z]+\d{4}_0*(\d+)")  # COCO_val2014_000000000042: official annotations say 42


class Pictures:
    """Pictures by file name without suffix."""

    def __init__(self, *sources: Path, numbers: bool = True, kept: int = 0) -> None:
        """numbers: those of COCO go by their number too, which may be that of another picture of Visual Genome. Folders
        are read with all their sub-folders. kept: decoded pictures in memory, for files of the same bytes soon after
        one another. Raises CorpusError if two pictures have one name."""
        self.decode = lru_cache(maxsize=kept)(decode)
        self.name_of = short_name if numbers else str
        self.sources = " and ".join(map(str, sources))
        self.places: dict[str, tuple[Path, int, int]] = {}  # name -> file, offset, bytes
        for source in sources:
            for path, place in places(source):
                if path.suffix.lower() in SUFFIXES:
                    name = self.name_of(path.stem)
                    if name in self.places:
                        raise CorpusError(f"{source}: two pictures are named {path.stem}, expected one. Remove one.")
                    self.places[name] = place

    def __contains__(self, name: str) -> bool:
        return self.name_of(name) in self.places

    def read(self, name: str, where: str) -> tuple[bytes, Image.Image]:
        """The file's bytes and the decoded RGB picture. `where`: who asks, for the error."""
        if name not in self:
            raise CorpusError(f"{where}: picture {name} is not in {self.sources} ({len(self.places):,} pictures).")
        path, offset, size = self.places[self.name_of(name)]
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        try:
            return data, self.decode(data)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise CorpusError(f"{path}: picture {name} cannot be decoded ({error}). Get it again.") from None


def decode(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


def short_name(name: str) -> str:
    """42 of COCO_val2014_000000000042; any other name as it is."""
    match = COCO.fullmatch(name)
    return match[1] if match else name


def places(source: Path) -> Iterator[tuple[Path, tuple[Path, int, int]]]:
    """Name, and file, offset and bytes, of all that is in a folder or a tar."""
    if source.is_dir():
        yield from ((path, (path, 0, path.stat().st_size)) for path in members([source]))
        return
    try:
        with tarfile.open(source, "r:") as archive:
            for entry in filter(tarfile.TarInfo.isreg, archive):
                yield Path(entry.name), (source, entry.offset_data, entry.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CorpusError(f"{source}: not a whole uncompressed tar ({error}). Get it again.") from None
