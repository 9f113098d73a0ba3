"""Oscar's own files, small enough to write within a test."""

import base64
import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.corpora.files import regions

ANSWERS = ["cat", "dog", "", "net"]  # by number
ORDER = {"dog": 1, "net": 3, "cat": 0, "": 2}  # by label
VQA = {
    "train2014": [
        {"q": "What is it?", "o": "cat;dog tree", "an": [1, 0], "s": [1.0, 0.3], "img_id": 42},
        {"q": "Who?", "o": "", "an": [], "s": [], "img_id": 43},
        {"q": "Is it?", "o": None, "an": [3], "s": [0.6], "img_id": 43},
    ],
    "val2014": [{"q": "How many?", "o": "dog", "an": [2], "s": [0.9], "img_id": 50}],
    "test2015": [{"q_id": "262144000", "q": "Why?", "o": "net", "an": None, "s": None, "img_id": 60}],
}
GQA = {
    "all_qla_train": [{"q": "Who?", "o": "man", "an": [3], "img_id": "n1", "q_id": "07333408"}],
    "bal_qla_train": [{"q": "Where?", "o": "man", "an": [1], "img_id": "n1", "q_id": "07333409"}],
    "bal_qla_val": [{"q": "What?", "o": "man", "an": [0], "img_id": "n2", "q_id": "00000001"}],
    "all_qla_submission": [{"q": "Is it?", "o": "", "an": None, "img_id": "n2", "q_id": "00000002"}],
}
SIDES = {"left": "nlvr2_dev-7-1-img0", "right": "nlvr2_dev-7-1-img1"}
NLVR2 = {
    "dev": [
        {"img_id": SIDES, "q": "Two dogs.", "o": {"left": "dog;dog", "right": "dog"}, "label": 1},
        {"img_id": SIDES, "q": "One dog.", "o": {"left": "dog;dog", "right": "dog"}, "label": 0},
    ]
}
CAPTIONS = {21: '["A man.", "A dog."]', 5: ["Two men.", "One dog."]}
RANKED = {21: "[[21, 1], [5, 0]]", 5: [[5, 0], [5, 1]]}
TAGS = {21: "man dog", 5: [{"class": "traffic light", "rect": [0, 0, 1, 1]}, {"class": "man"}]}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_answers(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_ans2label.pkl").write_bytes(pickle.dumps(ORDER))
    (folder / f"{name}_label2ans.pkl").write_bytes(pickle.dumps(ANSWERS))


def features(images: Iterable[Any]) -> dict[Any, Tensor]:
    """Two regions of the first, three of the second, ..."""
    return {image: regions(2 + index) for index, image in enumerate(dict.fromkeys(images))}


def write_vqa(folder: Path) -> Path:
    for part, rows in VQA.items():
        write_json(folder / "2k" / f"{part}_qla_mrcnn.json", rows)
        name = part.replace("2014", "")
        torch.save(features(row["img_id"] for row in rows), folder / "2k" / f"{name}_img_frcnn_feats.pt")
    write_answers(folder / "cache", "trainval")
    return folder


def write_gqa(folder: Path) -> Path:
    for part, rows in GQA.items():
        write_json(folder / "0.4true" / f"gqa_{part}.json", rows)
    torch.save(features(["n1", "n2"]), folder / "0.4true" / "gqa_img_frcnn_feats.pt")
    write_answers(folder / "questions1.2", "trainval_testdev_all")
    return folder


def write_nlvr2(folder: Path) -> Path:
    for split, rows in NLVR2.items():
        write_json(folder / f"nlvr2_{split}.json", rows)
    torch.save(features(SIDES.values()), folder / "nlvr2_img_frcnn_feats.pt")
    return folder


def write_retrieval(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("minival", "test"):
        shift = 0 if split == "minival" else 1000
        for name, content in {"captions": CAPTIONS, "vg_labels": TAGS, "img_frcnn_feats": features(CAPTIONS)}.items():
            torch.save({key + shift: value for key, value in content.items()}, folder / f"{split}_{name}.pt")
    torch.save(RANKED, folder / "minival_caption_indexs_top2.pt")
    (folder / "test_img_keys.tsv").write_text("1005\n1021\n")
    (folder / "test_img_keys_1k.tsv").write_text("1021\n")
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    **{"oscar-vqa": write_vqa, "oscar-gqa": write_gqa},
    **{"oscar-nlvr2": write_nlvr2, "oscar-retrieval": write_retrieval},
}


def row_of(image: str, rows: Tensor) -> bytes:
    """A line of a region file in text."""
    return b"\t".join([image.encode(), b"%d" % len(rows), base64.b64encode(rows.numpy().astype("<f4").tobytes())])


def write_tsv(path: Path, images: dict[str, Tensor], end: bytes = b"\n") -> list[int]:
    """Returns the byte where each row starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row_of(image, rows) + end for image, rows in images.items()]
    path.write_bytes(b"".join(lines))
    return [sum(map(len, lines[:number])) for number in range(len(lines))]
