"""LXMERT's files, small enough to write within a test."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

DIM = 6
SIZE = {"img_w": 200, "img_h": 100}
NAMES = ("COCO_train2014_000000000010", "COCO_train2014_000000000011", "COCO_val2014_000000000012")
ANSWERS = ["", "yes", "no", "2"]
KINDS = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4", "boxes": "<f4"}
LXMERT = ("img_id", "img_h", "img_w", *list(KINDS)[:4], "num_boxes", "boxes", "features")
BOTTOM_UP = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")


def arrays(count: int, dim: int = DIM) -> dict[str, np.ndarray]:
    """What the detector saw: box n is a tenth of the image further right than box n-1."""
    left = np.arange(count) * 20
    return {
        "objects_id": np.arange(count) + 7,
        "objects_conf": np.full(count, 0.5),
        "attrs_id": np.arange(count) + 1,
        "attrs_conf": np.full(count, 0.25),
        "boxes": np.stack([left, left * 0 + 25, left + 20, left * 0 + 75], 1),
        "features": np.arange(count * dim).reshape(count, dim) + count,
    }


def cells(image_id: str, count: int = 2, **changes: Any) -> dict[str, str]:
    """A row by field; changes: other arrays, or texts as they are."""
    values = {**SIZE, "num_boxes": count, **arrays(count), **changes}
    own = {key: encode(value, key) if isinstance(value, np.ndarray) else str(value) for key, value in values.items()}
    return {"img_id": image_id} | own


def encode(values: np.ndarray, key: str) -> str:
    return base64.b64encode(values.astype(KINDS.get(key, "<f4")).tobytes()).decode()


def line(row: dict[str, str], names: tuple[str, ...] = LXMERT, end: str = "\r\n") -> str:
    return "\t".join(row[key] for key in names) + end


def write_tsv(path: Path, *rows: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(map(line, rows)).encode("utf-8", "surrogateescape"))
    return path


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def question(number: int, image: str, **changes: Any) -> dict[str, Any]:
    record = {"question_id": number, "img_id": image, "sent": "Is it a dog?", "label": {"yes": 1, "no": 0.3}}
    return record | {"answer_type": "yes/no", "question_type": "is it"} | changes


def write_lxmert(folder: Path) -> Path:
    """The tree of the original: VQA, GQA, NLVR2, pre-training, and regions for each."""
    train, other, val = NAMES
    tables = {"trainval_label2ans": ANSWERS, "trainval_ans2label": {name: label for label, name in enumerate(ANSWERS)}}
    gqa = [{"question_id": f"0{n}", "img_id": str(n), "sent": "Is it?", "label": {"yes": 1.0}} for n in (10, 11)]
    pairs = [
        {
            **{"identifier": f"dev-5-{pair}-0", "img0": f"dev-5-{pair}-img0", "img1": f"dev-5-{pair}-img1"},
            **{"label": pair, "sent": "A cat.", "uid": f"nlvr2_valid_{pair}"},
        }
        for pair in (0, 1)
    ]
    sentences = [
        {
            "img_id": train,
            "sentf": {"mscoco": ["A dog."], "vqa": ["How many?", "Who?"]},
            "labelf": {"vqa": [{"2": 0.3, "Two": 0.9, "unseen": 1}, {"nobody": 1}]},
        },
        {"img_id": "10", "sentf": {"gqa": ["Is it?"]}, "labelf": {"gqa": [{"The Man.": 1.0}]}},
    ]
    table = [("2", ["vqa", "gqa"]), ("man", ["visual7w", "gqa"]), ("yes", ["vqa"])]
    files = {
        **{f"{task}/{name}": content for task in ("vqa", "gqa") for name, content in tables.items()},
        "vqa/train": [question(1, train), question(2, other, label={})],
        "vqa/minival": [question(3, val, sent="Wo? 🐕")],
        "vqa/test": [{key: value for key, value in question(4, val).items() if key != "label"}],
        **{"gqa/train": gqa, "nlvr2/valid": pairs},
        "lxmert/mscoco_train": sentences[:1],
        "lxmert/vgnococo": sentences[1:],
        "lxmert/all_ans": [{"ans": answer, "dsets": sets} for answer, sets in table],
    }
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    write_tsv(folder / "mscoco_imgfeat/train2014_obj36.tsv", cells(train, 2), cells(other, 3))
    write_tsv(folder / "mscoco_imgfeat/val2014_obj36.tsv", cells(val, 1))
    write_tsv(folder / "vg_gqa_imgfeat/vg_gqa_obj36.tsv", cells("10", 4), cells("11", 1), cells("12", 5))
    names = [record[key] for record in pairs for key in ("img0", "img1")]
    write_tsv(folder / "nlvr2_imgfeat/valid_obj36.tsv", *(cells(name, 2) for name in names))
    return folder
