"""ViLBERT's files small enough to write within a test; LMDB databases are written by the lmdb library."""

import base64
import pickle
import struct
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from tests.corpora.files_official import write_json

DIM, CLASSES = 5, 3
WIDTH, HEIGHT = 640, 480


def boxes_of(count: int) -> np.ndarray:
    """In pixels, all different."""
    left = np.arange(count, dtype=np.float32)[:, None]
    return np.concatenate([left * 2, left, left * 2 + 64, left + 48], 1)


def features_of(count: int, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(count).random((count, dim), np.float32)


def item(count: int = 3, **changes: Any) -> dict[str, Any]:
    """As the original's converter makes it."""
    found = {"image_id": "?", "image_h": HEIGHT, "image_w": WIDTH, "num_boxes": count}
    return found | {"boxes": boxes_of(count), "features": features_of(count)} | changes


def as_text(found: dict[str, Any]) -> dict[str, Any]:
    """As rows of bottom-up attention's TSV, which older databases hold."""
    arrays = {key: base64.b64encode(found[key].tobytes()).decode() for key in ("boxes", "features")}
    return {key: str(value) for key, value in found.items()} | arrays


def write_values(path: Path, values: dict[bytes, bytes], *, folder: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=1 << 26, subdir=folder) as database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return path


def write_lmdb(path: Path, items: dict[str, Any], *, folder: bool = True) -> Path:
    """Pickled items, and the list of their keys."""
    values = {name.encode(): pickle.dumps(value) for name, value in items.items()}
    return write_values(path, values | {b"keys": pickle.dumps(list(values))}, folder=folder)


def pack(value: Any) -> bytes:
    """msgpack, with arrays and numbers as msgpack_numpy writes them."""
    if isinstance(value, np.ndarray):
        shape, kind = list(value.shape), value.dtype.str
        return pack({b"nd": True, b"type": kind, b"kind": b"", b"shape": shape, b"data": value.tobytes()})
    if isinstance(value, np.generic):
        return pack({b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()})
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if value < 128 else struct.pack(">BI", 0xCE, value)
    if isinstance(value, str | bytes):
        content = value.encode() if isinstance(value, str) else value
        return struct.pack(">BI", 0xDB if isinstance(value, str) else 0xC6, len(content)) + content
    if isinstance(value, list):
        return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))
    return bytes([0x80 | len(value)]) + b"".join(pack(key) + pack(inner) for key, inner in value.items())


def datapoint(image: int, caption: str, count: int = 3) -> bytes:
    """One of Conceptual Captions'."""
    probabilities = np.full((count, CLASSES), 1 / CLASSES, np.float32)
    sizes = [np.int64(count), HEIGHT, WIDTH]
    return b"\x98" + b"".join(
        map(pack, [features_of(count), probabilities, boxes_of(count), *sizes, str(image), caption])
    )


def write_datapoints(path: Path, captions: dict[int, str]) -> Path:
    """As tensorpack writes them, in one file."""
    keys = [b"%08d" % number for number in range(len(captions))]
    values = dict(zip(keys, [datapoint(image, text) for image, text in captions.items()], strict=True))
    return write_values(path, values | {b"__keys__": pack(keys)}, folder=False)


def write_npz(folder: Path, *names: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Image N has N + 1 regions."""
    (folder / "regions").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        arrays = {"features": features_of(number), "boxes": boxes_of(number), "size": np.array(size)}
        np.savez(folder / "regions" / f"{name}.npz", **arrays)


def write_pickle(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def write_refcoco(folder: Path, by: str = "unc") -> Path:
    """Two images; two objects of the first with two expressions and one, one of the second with one."""
    refs = [
        {
            "ref_id": 40 + number,
            "ann_id": 10 + number,
            "image_id": image,
            "category_id": 1,
            "split": split,
            "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
            "sent_ids": [100 * number + place for place in range(count)],
            "sentences": [
                {"sent_id": 100 * number + place, "raw": f"The dog {number} {place}.", "sent": "dog", "tokens": ["dog"]}
                for place in range(count)
            ],
        }
        for number, (image, split, count) in enumerate([(7, "train", 2), (7, "train", 1), (9, "testA", 1)])
    ]
    write_pickle(folder / f"refs({by}).p", refs)
    instances = {
        "images": [{"id": image, "width": 100, "height": 50, "file_name": f"{image}.jpg"} for image in (7, 9)],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": 10 + number, "image_id": image, "category_id": 1, "bbox": [10.0 * number, 5, 20, 25.0]}
            for number, image in enumerate((7, 7, 9))
        ],
    }
    write_json(folder / "instances.json", instances)
    write_npz(folder, "7", "COCO_train2014_000000000009")
    return folder
