"""What the annotations of every format are about: regions in any detector's files, pictures in folders or tars.

Both are sought in the whole source folder, whatever the format of the annotations: a user's own detector serves any
task. An annotation reader asks for images by id; `add_images` finds and writes them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from vlx.corpora.formats import lxmert_tsv, npz, oscar_pt, oscar_tsv, vilbert_lmdb
from vlx.corpora.formats.files import Regions
from vlx.corpora.formats.pictures import SUFFIXES, Pictures, short_name
from vlx.corpora.regions import DETECTOR
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.progress import meter

# Pattern of a region file's name -> its reader, which streams the file image by image.
READERS: dict[str, Callable[[Path], Iterator[Regions]]] = {
    "*_feats.pt": oscar_pt.regions,
    **dict.fromkeys(["*_img_*feats.tsv", "features.tsv"], oscar_tsv.regions),
    **dict.fromkeys(["*_obj*.tsv", "*_obj*.tsv.gz", "*_faster_rcnn_genome*.tsv*"], lxmert_tsv.regions),
    "*.lmdb": vilbert_lmdb.regions,
    "regions": npz.regions,
}
ANNOTATED = "*_gt_*"  # name of files with regions of annotated boxes, which the formats that know them ask for


def region_files(folder: Path) -> list[Path]:
    found = {path for pattern in READERS for path in folder.rglob(pattern)}
    return sorted(path for path in found if not fnmatch(path.name, ANNOTATED))


def find_images(folder: Path) -> dict[str, Path]:
    """By role: the region files under the folder, the tars, and the topmost folders that hold pictures."""
    holders = {path.parent for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}
    top = [path for path in sorted(holders) if not holders & set(path.parents)]
    found = {"regions": region_files(folder), "pictures": [*top, *sorted(folder.rglob("*.tar"))]}
    return {f"{role} {path.relative_to(folder)}": path for role, paths in found.items() for path in paths}


def add_images(
    writer: CorpusWriter, files: Mapping[str, Path], wanted: Mapping[str, str],
    *, complete: Callable[[Regions], Regions] | None = None,
) -> str:  # fmt: skip
    """Write the wanted images (id -> who names it, for the error) with their regions and pictures, as far as `files`
    (of find_images) hold any; returns the detector's name. Images are written in the order of the region files; those
    that another format of the same corpus has written are left as they are. complete: adds to an image's regions."""
    wanted = {name: who for name, who in wanted.items() if name not in writer.image_ids}
    places = (path for role, path in files.items() if role.startswith("pictures "))
    pictures = Pictures(*places, numbers=all(name == short_name(name) for name in wanted))
    sources = [path for role, path in files.items() if role.startswith("regions ")]
    own = own_names(wanted, sources)
    with meter("images", len(wanted)) as progress:
        for row in (row for path in sources for row in read_regions(path)):
            name = row.image_id if row.image_id in wanted else own.get(short_name(row.image_id))
            if name is not None:
                row = complete(row) if complete else row
                data, picture = pictures.read(name, row.where) if pictures.places else (None, None)
                row = row._replace(size=picture.size) if picture else row
                writer.add_image(
                    name, row.features, row.boxes,
                    size=row.size, data=data, fields=row.fields, tags=row.tags, where=row.where,
                )  # fmt: skip
                progress.advance()
        for name in () if sources else (name for name in wanted if name in pictures):
            data, picture = pictures.read(name, wanted[name])
            writer.add_image(name, size=picture.size, data=data)
            progress.advance()
    absent = [name for name in wanted if name not in writer.image_ids]
    if absent:
        looked = ", ".join(path.name for role, path in files.items() if role.startswith(("regions ", "pictures ")))
        looked = looked or "the source: there are no region files and no pictures in it"
        many = f"{len(absent):,} of {len(wanted):,} images are"
        raise CorpusError(f"{wanted[absent[0]]} names image {absent[0]}, absent from {looked} ({many}). Check source.")
    return ("components-v1" if any(DETECTOR in path.name for path in sources) else "external") if sources else "none"


def own_names(wanted: Iterable[str], sources: Sequence[Path]) -> dict[str, str]:
    """Short name -> wanted name: COCO's names and numbers are one. But numbers are Visual Genome's too, of other
    pictures: of several region files, if the first image of any is named the wanted way, that way alone will do."""
    first = [row.image_id for path in sources for row in islice(read_regions(path), 1)] if len(sources) > 1 else []
    ways = {name != short_name(name) for name in first if short_name(name).isdecimal()}  # True: by COCO's names
    return {short_name(name): name for name in wanted if (name != short_name(name)) not in ways}


def read_regions(path: Path) -> Iterator[Regions]:
    return next(read for pattern, read in READERS.items() if fnmatch(path.name, pattern))(path)
