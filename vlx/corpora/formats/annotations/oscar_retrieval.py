"""Oscar's retrieval data: captions by image, saved by torch.

oscar-retrieval   {train,minival,val,test}_captions.pt, and optionally: {split}_{vg,oid,gt}_labels.pt, the tags;
                  {split}_caption_indexs_top*.pt, captions to rank; {split}_img_keys*.tsv, the images of a split
"""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from vlx.corpora.formats.annotations.oscar import ImageAdder, OscarFiles, find_splits, first_match, tags_of
from vlx.corpora.formats.features.oscar_pt import load_dict
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.formats.folders import files_under
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.images import coco_number
from vlx.corpora.formats.records import objects, text_field, unique
from vlx.corpora.formats.sources import find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "minival", "val", "test")
CAPTIONS = OscarFiles({split: [f"{split}_captions.pt"] for split in SPLITS})
TAG_SOURCES = ("vg", "oid", "gt")  # detectors, by Oscar's preference


def find(folder: Path) -> Files:
    """The captions that exist, and for their splits tags, candidates and lists of images; regions and images."""
    paths = files_under([folder])
    files = find_splits(folder, paths, CAPTIONS)
    for split in [*files]:
        tags = first_match(paths, [f"{split}_{source}_labels.pt" for source in TAG_SOURCES])
        candidates = first_match(paths, [f"{split}_caption_indexs_top*.pt"])
        files |= {f"tags {split}": tags} if tags else {}
        files |= {f"candidates {split}": candidates} if candidates else {}
        keys = [path for path in paths if fnmatch(path.name, f"{split}_img_keys*.tsv")]
        files |= {f"keys {path.stem.replace('_img_keys', '')}": path for path in keys}
    return files | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write captions, named <image>-<position among its captions>, and images with their tags."""
    images = ImageAdder(writer, files)
    for split in [split for split in SPLITS if split in files]:
        captions = captions_of(files[split])
        path = files.get(f"candidates {split}")
        extra_of = {} if path is None else candidates_of(path, captions)
        image_lists = {split: [*captions]}
        for role in [role for role in files if role.startswith(f"keys {split}")]:
            image_lists[role.removeprefix("keys ")] = image_keys(files[role], captions)
        for name, image_ids in image_lists.items():
            writer.add_examples("retrieval", name, examples(image_ids, captions, extra_of))
        mentions = {image: str(files[split]) for image_ids in image_lists.values() for image in image_ids}
        tags = files.get(f"tags {split}")
        images.add(split, mentions, partial(with_tags, tags_by_image(tags), tags) if tags else None)
    return images.detector


def examples(image_ids: list[str], captions: Mapping[str, list[str]], extra_of: Mapping[str, str]) -> Iterator[Example]:
    for image in image_ids:
        for position, text in enumerate(captions[image]):
            yield Example(f"{image}-{position}", text, [image], group=image, extra=extra_of.get(image, ""))


def values_by_image(path: Path, shape: str) -> Iterator[tuple[str, Any, str]]:
    """(image, its value, where). shape: of the file's dict in words, for the error."""
    seen: set[str] = set()
    for key, value in load_dict(path, shape).items():
        where = f"{path}: image {ascii(str(key))[1:-1][:60]}"
        yield unique(str(key), seen, where, "image"), value, where


def lists_by_image(path: Path, shape: str) -> Iterator[tuple[str, list[Any], str]]:
    """(image, its list, where); the lists may be saved as JSON."""
    for image, value, where in values_by_image(path, shape):
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error}). Get the file again.") from None
        if not isinstance(value, list) or not value:
            raise CorpusError(f"{where}: found {ascii(value)[:60]}, expected a list, {shape}. Get the file again.")
        yield image, value, where


def captions_of(path: Path) -> dict[str, list[str]]:
    rows = lists_by_image(path, "image -> captions")
    return {image: [text_field({"caption": text}, "caption", where) for text in texts] for image, texts, where in rows}


def candidates_of(path: Path, captions: Mapping[str, list[str]]) -> dict[str, str]:
    """image -> `extra` with the captions to rank for the image, named as the examples."""
    extra_of: dict[str, str] = {}
    for image, pairs, where in lists_by_image(path, "image -> [[image, position of the caption], ...]"):
        for pair in pairs:
            is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[1]) is int
            if not is_pair or not 0 <= pair[1] < len(captions.get(str(pair[0]), ())):
                raise CorpusError(f"{where}: {ascii(pair)[:60]} is no caption of these images. Get both files again.")
        extra_of[image] = json.dumps({"candidates": [f"{name}-{position}" for name, position in pairs]})
    if absent := captions.keys() - extra_of.keys():
        raise CorpusError(f"{path}: nothing of image {min(absent)}, expected it of each. Get the file again.")
    return extra_of


def image_keys(path: Path, captions: Mapping[str, list[str]]) -> list[str]:
    """Images, one a line."""
    names = path.read_bytes().decode(errors="replace").split()
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if unique(name, seen, f"{path}:{number}", "image") not in captions:
            raise CorpusError(f"{path}:{number}: image {ascii(name)[:60]} has no captions. Get both files again.")
    if not names:
        raise CorpusError(f"{path}: found nothing in it, expected an image a line. Is the download complete?")
    return names


def tags_by_image(path: Path) -> dict[str, list[str]]:
    """From a text of tags, or from objects with a class each."""
    tags: dict[str, list[str]] = {}
    for image, value, where in values_by_image(path, "image -> tags"):
        if isinstance(value, list):
            tags[image] = [text_field(record, "class", at) for at, record in objects(value, where, "object")]
        else:
            tags[image] = tags_of(value, where).split()
    return tags


def with_tags(tags: Mapping[str, list[str]], path: Path, record: RegionRecord) -> RegionRecord:
    name = coco_number(record.image_id)
    if name not in tags:
        raise CorpusError(f"{record.where}: no tags of it in {path}, expected some. Get both files again.")
    return record._replace(tags=tuple(tags[name]))


OSCAR_RETRIEVAL = Format(find, read, id_space="coco")
