"""NLVR2 as published: json lines, Oscar's region features of every picture, and the pictures where there are any.

<source>/train.json dev.json test1.json   json lines; one of them will do
<source>/nlvr2_img_<detector>_feats.pt    torch-saved dict: picture -> [R, D+6], the last six x1 y1 x2 y2 w h in 0..1
<source>/images/ or images.tar            optional: <split>-<set>-<pair>-img0.png and -img1.png
"""

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlx.corpora.formats.files import Pictures, field, records, sentence_and_label
from vlx.corpora.regions import DETECTOR
from vlx.corpora.store import NO_SIZE, CorpusWriter, Statement
from vlx.errors import CorpusError
from vlx.progress import meter

SPLITS = ("train", "dev", "test1")
IDENTIFIER = re.compile(r"([A-Za-z0-9]+)-(\d+)-(\d+)-(\d+)", re.ASCII)  # split, set, pair, sentence
BOX_TERMS = 6
ROUNDING = 1e-3  # how far a box may be beyond 0..1


def find(folder: Path) -> dict[str, Path]:
    """features, the splits there are, and pictures if there are any."""
    features = list(folder.glob("nlvr2_img_*_feats.pt"))
    if len(features) != 1:
        raise CorpusError(f"{folder}: found {len(features)} files nlvr2_img_*_feats.pt, expected 1. Check source.")
    splits = {split: path for split in SPLITS if (path := folder / f"{split}.json").is_file()}
    if not splits:
        raise CorpusError(f"{folder}: found none of train.json, dev.json, test1.json. Check source.")
    pictures = [path for path in (folder / "images", folder / "images.tar") if path.exists()]
    return {"features": features[0], **splits, **dict(zip(["pictures"], pictures, strict=False))}


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write statements, regions and pictures; returns the detector's name."""
    splits = {split: statements(files[split]) for split in SPLITS if split in files}
    wanted = {name: row.identifier for rows in splits.values() for row in rows for name in row.image_ids}
    path = files["features"]
    features = load_features(path)
    pictures = Pictures(files["pictures"]) if "pictures" in files else None
    with meter("pictures", len(wanted)) as progress:
        for name, identifier in wanted.items():
            if name not in features:
                absent = f"absent among {len(features):,} pictures"
                raise CorpusError(f"{path}: statement {identifier} needs {name}, {absent}. Check source.")
            regions, boxes = split_boxes(features[name], f"{path}: picture {name}")
            data, picture = pictures.read(name, f"statement {identifier}") if pictures else (None, None)
            writer.add_image(name, regions, boxes, size=picture.size if picture else NO_SIZE, data=data)
            progress.advance()
    for split, rows in splits.items():
        writer.add_statements("nlvr2", split, rows)
    return DETECTOR if path.name == f"nlvr2_img_{DETECTOR}_feats.pt" else "external"


def statements(path: Path) -> list[Statement]:
    """A split. Statements of one sentence, over its four pairs, are a group: the identifier without its pair."""
    found = []
    for where, match, record in records(path, IDENTIFIER, "<split>-<set>-<pair>-<sentence>"):
        text, label = sentence_and_label(record, where)
        split, number, pair, sentence = match.groups()
        group, images = f"{split}-{number}--{sentence}", [f"{split}-{number}-{pair}-img{side}" for side in (0, 1)]
        category = field(record, "synset", where)[0] if record.get("synset") else ""
        found.append(Statement(match[0], group, text, images, label, category))
    return found


def load_features(path: Path) -> dict[str, Tensor]:
    """Oscar's dict; nothing in it can run. Mapped and not read, unless saved by a torch before 1.6."""
    try:
        features = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception:  # torch raises anything on a foreign file
        found = "cut, or holds more than tensors; it was not run"
        raise CorpusError(f"{path}: {found}. Expected torch-saved features.") from None
    if not isinstance(features, dict) or not features:
        raise CorpusError(f"{path}: found {type(features).__name__}, expected a dict of picture name -> [R,D+6].")
    return features


def split_boxes(rows: Tensor, where: str) -> tuple[np.ndarray, np.ndarray]:
    """[R,D+6] -> features [R,D], boxes [R,4] in 0..1."""
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] <= BOX_TERMS or not rows.is_floating_point():
        found = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise CorpusError(f"{where}: found {found}, expected floats [R,D+6]. Check the feature file.")
    boxes = rows[:, -BOX_TERMS:-2].float().numpy()
    if not ((boxes > -ROUNDING) & (boxes < 1 + ROUNDING)).all():
        raise CorpusError(f"{where}: its last six columns are not x1 y1 x2 y2 w h in 0..1. Check the feature file.")
    return rows[:, :-BOX_TERMS].float().numpy(), boxes.clip(0, 1)
