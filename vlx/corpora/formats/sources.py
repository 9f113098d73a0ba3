"""Regions and images of a source folder, whatever the format of its annotations: any detector serves any task.

An annotation reader collects the image ids that its records mention; `add_images` finds and writes these images.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from vlx.corpora.formats.features import lxmert_tsv, npz, oscar_pt, oscar_tsv, vilbert_lmdb
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.formats.images import SUFFIXES, ImageFiles, coco_number
from vlx.corpora.regions import DETECTOR
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.progress import meter

# Pattern of a region file's name -> its reader, which streams the file image by image.
READERS: dict[str, Callable[[Path], Iterator[RegionRecord]]] = {
    "*_feats.pt": oscar_pt.regions,
    **dict.fromkeys(["*_img_*feats.tsv", "features.tsv"], oscar_tsv.regions),
    **dict.fromkeys(["*_obj*.tsv", "*_obj*.tsv.gz", "*_faster_rcnn_genome*.tsv*"], lxmert_tsv.regions),
    "*.lmdb": vilbert_lmdb.regions,
    "regions": npz.regions,
}
ANNOTATED_BOXES = "*_gt_*"  # region files of annotated boxes, which only the formats that know them read
REGIONS, IMAGES = "regions ", "images "  # prefixes of the roles of `find_images`


def region_files(folder: Path) -> list[Path]:
    paths = {path for pattern in READERS for path in folder.rglob(pattern)}
    return sorted(path for path in paths if not fnmatch(path.name, ANNOTATED_BOXES))


def find_images(folder: Path) -> dict[str, Path]:
    """Region files under the folder, tars, and the topmost folders with image files, by role."""
    holders = {path.parent for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}
    topmost = [path for path in sorted(holders) if not holders & set(path.parents)]
    paths_by_prefix = {REGIONS: region_files(folder), IMAGES: [*topmost, *sorted(folder.rglob("*.tar"))]}
    return {f"{prefix}{path.relative_to(folder)}": path for prefix, paths in paths_by_prefix.items() for path in paths}


def with_role(files: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """The files whose role has the prefix."""
    return {role: path for role, path in files.items() if role.startswith(prefix)}


def without_role(files: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    return {role: path for role, path in files.items() if not role.startswith(prefix)}


def add_images(
    writer: CorpusWriter, files: Mapping[str, Path], mentions: Mapping[str, str],
    *, complete: Callable[[RegionRecord], RegionRecord] | None = None,
) -> str:  # fmt: skip
    """Write every mentioned image with its regions and its image file; return the detector's name.

    files: of `find_images`. mentions: image id -> the record that names it, for errors. Images that another format has
    written to this corpus stay as they are. complete: adds regions to those of the region files.
    """
    mentions = {image_id: where for image_id, where in mentions.items() if image_id not in writer.image_ids}
    regions = [*with_role(files, REGIONS).values()]
    coco_numbers = not any(map(is_coco_name, mentions))
    images = ImageFiles(*with_role(files, IMAGES).values(), coco_numbers=coco_numbers)
    with meter("images", len(mentions)) as progress:
        if regions:
            written = write_regions(writer, regions, images, mentions, complete)
        else:
            written = write_image_files(writer, images, mentions)
        for _ in written:
            progress.advance()
    refuse_absent_images(writer, files, mentions)
    if not regions:
        return "none"
    return DETECTOR if any(DETECTOR in path.name for path in regions) else "external"


def write_regions(
    writer: CorpusWriter, paths: Sequence[Path], images: ImageFiles, mentions: Mapping[str, str],
    complete: Callable[[RegionRecord], RegionRecord] | None,
) -> Iterator[str]:  # fmt: skip
    """Write the mentioned images in the order of the region files; yields their ids."""
    by_coco_number = match_image_ids(mentions, paths)
    for record in (record for path in paths for record in read_regions(path)):
        exact = record.image_id if record.image_id in mentions else None
        image_id = exact or by_coco_number.get(coco_number(record.image_id))
        if image_id is None:
            continue
        record = complete(record) if complete else record
        data, size = None, record.image_size
        if images.locations:
            data, image = images.read(image_id, record.where)
            size = image.size
        writer.add_image(
            image_id, record.features, record.boxes,
            size=size, data=data, fields=record.fields, tags=record.tags, where=record.where,
        )  # fmt: skip
        yield image_id


def write_image_files(writer: CorpusWriter, images: ImageFiles, mentions: Mapping[str, str]) -> Iterator[str]:
    """Write the mentioned images that have a file, without regions, in the order of `mentions`; yields their ids."""
    for image_id in (image_id for image_id in mentions if image_id in images):
        data, image = images.read(image_id, mentions[image_id])
        writer.add_image(image_id, size=image.size, data=data)
        yield image_id


def refuse_absent_images(writer: CorpusWriter, files: Mapping[str, Path], mentions: Mapping[str, str]) -> None:
    absent = [image_id for image_id in mentions if image_id not in writer.image_ids]
    if absent:
        paths = [*with_role(files, REGIONS).values(), *with_role(files, IMAGES).values()]
        searched = ", ".join(path.name for path in paths)
        searched = searched or "the source: there are no region files and no images in it"
        count = f"{len(absent):,} of {len(mentions):,} images are"
        problem = f"{mentions[absent[0]]} names image {absent[0]}, absent from {searched} ({count})"
        raise CorpusError(f"{problem}. Check source.")


def match_image_ids(image_ids: Collection[str], paths: Sequence[Path]) -> dict[str, str]:
    """COCO number -> image id, for the ids that a region file may spell in another way than the annotations.

    COCO's image 42 is also called COCO_val2014_000000000042, so that both spellings match. Visual Genome has an image
    42 too: with several region files, ids of a spelling that some region file uses must match exactly.
    """
    first_ids = [next(read_regions(path)).image_id for path in paths] if len(paths) > 1 else []
    spellings = {is_coco_name(image_id) for image_id in first_ids if coco_number(image_id).isdecimal()}
    return {coco_number(image_id): image_id for image_id in image_ids if is_coco_name(image_id) not in spellings}


def is_coco_name(image_id: str) -> bool:
    return coco_number(image_id) != image_id


def read_regions(path: Path) -> Iterator[RegionRecord]:
    return next(read for pattern, read in READERS.items() if fnmatch(path.name, pattern))(path)
