"""lxmert/tsv, lxmert/data_mini, lxmert/tokenization.json: what LXMERT's own files say."""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx import corpora
from vlx.corpora.formats.annotations import lxmert
from vlx.corpora.formats.features import lxmert_tsv
from vlx.errors import CorpusError
from vlx.tokenization import WordPiece


def check(case: Path) -> None:
    if case.suffix == ".json":
        check_tokens(case)
    elif (case / "data").is_dir():
        with TemporaryDirectory() as folder:
            check_data(case, Path(folder))
    else:
        check_regions(case)


def check_tokens(case: Path) -> None:
    """The pieces, and the ids padded with 0 to the length of the case."""
    wordpiece = WordPiece.load(case.parent / "vocab.txt")
    for row in json.loads(case.read_text()):
        pieces = wordpiece.tokenizer.encode(row["sentence"], add_special_tokens=False).tokens
        limit = len(row["input_ids"])
        (ids,) = wordpiece.encode([row["sentence"]], limit=limit)
        assert pieces == row["tokens"]
        assert ids + [0] * (limit - len(ids)) == row["input_ids"] and sum(row["attention_mask"]) == len(ids)


def check_regions(case: Path) -> None:
    """Every field of every row, in the order of the file; boxes are pixels there and parts of the picture here."""
    (path,) = case.glob("*.tsv")
    images = json.loads((case / "expected.json").read_text())["images"]
    rows, arrays = list(lxmert_tsv.regions(path)), load_file(case / "expected.safetensors")
    scalars = [{"img_id": row.image_id, "img_w": row.image_size[0], "img_h": row.image_size[1]} for row in rows]
    assert [scalar | {"num_boxes": len(row.boxes)} for scalar, row in zip(scalars, rows, strict=True)] == images
    for row in rows:
        scale = torch.tensor([*row.image_size, *row.image_size])
        boxes = arrays.pop(f"{row.image_id}.boxes") / scale
        close(torch.from_numpy(row.boxes), boxes.clip(0, 1), f"boxes of {row.image_id}")
        for key, values in {**row.fields, "features": row.features}.items():
            given = arrays.pop(f"{row.image_id}.{key}").numpy()
            assert given.dtype == values.dtype and np.array_equal(given, values), f"{key} of {row.image_id}"
    assert not arrays


def check_data(case: Path, scratch: Path) -> None:
    """The original drops an example whose image has no regions. vlx refuses the tree, and without those examples gives
    what the original gave."""
    expected = json.loads((case / "expected.json").read_text())
    tensors, whole, kept = load_file(case / "expected.safetensors"), case / "data", scratch / "data"
    dropped = copy_without_absent(whole, kept)
    for folder in ("vqa", "gqa", "nlvr2", "lxmert"):
        format = f"lxmert-{folder}".replace("lxmert-lxmert", "lxmert-pretrain")
        if folder in dropped:
            with pytest.raises(CorpusError, match="absent from"):
                corpora.prepare(format, whole, scratch / f"whole-{format}")
        for tag, case_of in expected.items():
            if tag.startswith(f"{folder}:"):
                corpus = corpora.prepare(format, kept, scratch / tag.replace(":", "-"), dtype="float32")
                check_items(corpus, tag, case_of, tensors, whole)
    assert not tensors
    for tag, case_of in expected.items():
        if tag.startswith("pretrain") and "items" in case_of:
            sets = sorted(re.findall("vqa|gqa|visual7w", tag), key=lxmert.QA_SETS.index)
            corpus = corpora.prepare("-".join(["lxmert-pretrain", *sets]), kept, scratch / tag)
            check_sentences(corpus, case_of, whole / "lxmert")


def copy_without_absent(whole: Path, kept: Path) -> set[str]:
    """Copy a data tree without the examples whose images have no regions; returns the folders that had some."""
    present = {row.image_id for path in whole.rglob("*_imgfeat/*.tsv") for row in lxmert_tsv.regions(path)}
    dropped = set()
    for path in (path for path in whole.rglob("*") if path.is_file()):
        copy = kept / path.relative_to(whole)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        records = json.loads(path.read_text()) if path.suffix == ".json" else []
        if any("sent" in record or "sentf" in record for record in records if isinstance(record, dict)):
            found = [record for record in records if present.issuperset(images_of(record))]
            copy.write_text(json.dumps(found))
            dropped |= {path.parent.name} if len(found) < len(records) else set()
    return dropped


def images_of(record: dict[str, Any]) -> list[str]:
    return [record[key] for key in ("img_id", "img0", "img1") if key in record]


def check_items(
    corpus: corpora.Corpus, tag: str, expected: dict[str, Any], tensors: dict[str, Tensor], whole: Path
) -> None:
    """Ids, sentences, labels, regions and soft targets of the splits that the tag names."""
    task, _, splits = tag.partition(":")
    records = [
        record for split in splits.split(",") for record in json.loads((whole / task / f"{split}.json").read_text())
    ]
    identifiers = {record.get("uid"): record.get("identifier") for record in records}
    rows = [row for split in splits.split(",") for row in corpus.examples(task, split)]
    assert len(records) == expected["json_entries"] and len(rows) == expected["used"] == len(expected["items"])
    vocabulary = corpus.answers(task)
    for number, (row, item) in enumerate(zip(rows, expected["items"], strict=True)):
        assert row["identifier"] == str(identifiers.get(item["id"], item["id"])) and row["text"] == item["sent"]
        assert row["label"] == item.get("label", -1)
        found = [corpus.regions(name) for name in row["image_ids"]]
        for key, arrays in zip(("feats", "boxes"), zip(*found, strict=True), strict=True):
            array = torch.from_numpy(np.stack(arrays) if task == "nlvr2" else arrays[0].copy())
            close(array, tensors.pop(f"{tag}.{number}.{key}"), f"{key} of {tag} {number}")
        target = torch.zeros(len(vocabulary))
        for answer, score in zip(row["answers"], row["scores"], strict=True):
            target[[label for label, name in enumerate(vocabulary) if name == answer]] = score
        wanted = tensors.pop(f"{tag}.{number}.target", None)
        assert not row["answers"] if wanted is None else torch.equal(target, wanted)


def check_sentences(corpus: corpora.Corpus, expected: dict[str, Any], folder: Path) -> None:
    """The flattened sentences with their labels, and the labels of every image as read, its regions there or not."""
    vocabulary = corpus.answers("pretrain")
    assert vocabulary == expected["answers"] and len(vocabulary) == expected["num_answers"]
    splits = corpus.splits("pretrain")
    items = [
        {"uid": row["identifier"], "sent": row["text"], "is_matched": 1, "label": label_of(row, vocabulary)}
        for split in splits
        for row in corpus.examples("pretrain", split)
    ]
    assert items == expected["items"]
    labels: dict[str, dict[str, list[dict[str, float]]]] = {}
    for split in splits:
        for row in lxmert.sentences(folder / f"{split}.json", frozenset(vocabulary), {}):
            image = labels.setdefault(row.image_ids[0], {})
            if row.extra:
                image.setdefault(row.category, []).append(dict(zip(row.answers, row.scores, strict=True)))
    assert list(labels.values()) == expected["labelf_after"]


def label_of(row: dict[str, Any], vocabulary: list[str]) -> dict[str, float] | None:
    """Score by label, or None of a caption."""
    if not row["extra"]:
        return None
    scores = zip(row["answers"], row["scores"], strict=True)
    return {str(vocabulary.index(answer)): pytest.approx(score) for answer, score in scores}
