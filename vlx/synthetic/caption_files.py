"""Official files of COCO captions (Karpathy's split), RefCOCO and SNLI-VE."""

import pickle
import random
from pathlib import Path

from vlx.synthetic.captions import caption, captions, hypotheses, referring_expressions
from vlx.synthetic.images import IMAGE_SIZE, SHAPES, ImageShapes
from vlx.synthetic.records import Record, Splits, without, write_json, write_lines

LABEL_LETTERS = {"entailment": "e", "neutral": "n", "contradiction": "c"}


def caption_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    return [{"image_id": image_id, "raw": text} for text in captions(rng, shapes)]


def write_karpathy(folder: Path, splits: Splits) -> None:
    """Write one file for all splits."""
    images: dict[int, Record] = {}
    for split, records in splits.items():
        for record in records:
            image_id = record["image_id"]
            image = images.setdefault(image_id, karpathy_image(image_id, split))
            sentence_id = image_id * 10 + len(image["sentids"])
            image["sentids"].append(sentence_id)
            image["sentences"].append(
                {
                    "raw": record["raw"],
                    "tokens": record["raw"].lower().rstrip(".").split(),
                    "imgid": image_id,
                    "sentid": sentence_id,
                }
            )
    write_json(folder / "dataset_coco.json", {"dataset": "coco", "images": list(images.values())})


def karpathy_image(image_id: int, split: str) -> Record:
    return {
        "filename": f"{image_id}.png",
        "filepath": "images",
        "cocoid": image_id,
        "imgid": image_id,
        "split": split,
        "sentids": [],
        "sentences": [],
    }


def expression_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return one expression for every shape that words tell apart. `ann_id`: of the annotated box."""
    records: list[Record] = []
    for index in rng.sample(range(len(shapes)), len(shapes)):
        texts = referring_expressions(rng, shapes, index=index)
        if texts:
            records.append(
                {
                    "image_id": image_id,
                    "ann_id": image_id * 10 + index,
                    "shapes": shapes,
                    "text": rng.choice(texts),
                }
            )
    return records


def write_refcoco(folder: Path, splits: Splits, *, split_by: str = "unc") -> None:
    """Write refs(<split_by>).p and instances.json, each for all splits."""
    refs = [refcoco_ref(record, split) for split, records in splits.items() for record in records]
    (folder / f"refs({split_by}).p").write_bytes(pickle.dumps(refs))
    images = {record["image_id"]: record["shapes"] for records in splits.values() for record in records}
    write_json(folder / "instances.json", coco_instances(images))


def refcoco_ref(record: Record, split: str) -> Record:
    ann_id = record["ann_id"]
    text = record["text"]
    sentence = {"raw": text, "sent": text, "tokens": text.split(), "sent_id": ann_id * 10}
    return {
        "ref_id": ann_id,
        "ann_id": ann_id,
        "image_id": record["image_id"],
        "split": split,
        "file_name": f"{record['image_id']}.png",
        "category_id": SHAPES.index(record["shapes"][ann_id % 10].shape) + 1,
        "sentences": [sentence],
        "sent_ids": [sentence["sent_id"]],
    }


def coco_instances(images: dict[int, ImageShapes]) -> Record:
    """Return COCO's instances: every shape of every image with its box and category."""
    return {
        "images": [
            {"id": image_id, "width": IMAGE_SIZE, "height": IMAGE_SIZE, "file_name": f"{image_id}.png"}
            for image_id in images
        ],
        "categories": [{"id": category_id, "name": name} for category_id, name in enumerate(SHAPES, 1)],
        "annotations": [
            {
                "id": image_id * 10 + index,
                "image_id": image_id,
                "category_id": SHAPES.index(shape.shape) + 1,
                "bbox": list(shape.box()),
                "iscrowd": 0,
            }
            for image_id, shapes in images.items()
            for index, shape in enumerate(shapes)
        ],
    }


def hypothesis_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    premise = caption(rng, shapes)
    return [
        {
            "image_id": image_id,
            "Flickr30K_ID": str(image_id),
            "captionID": f"{image_id}.jpg#0",
            "pairID": f"{image_id}.jpg#0r{index}{LABEL_LETTERS[hypothesis.label]}",
            "gold_label": hypothesis.label,
            "sentence1": premise,
            "sentence2": hypothesis.text,
            "annotator_labels": [hypothesis.label],
        }
        for index, hypothesis in enumerate(hypotheses(rng, shapes))
    ]


def write_snli_ve(folder: Path, splits: Splits) -> None:
    for split, records in splits.items():
        write_lines(folder / f"snli_ve_{split}.jsonl", [without(record, "image_id") for record in records])
