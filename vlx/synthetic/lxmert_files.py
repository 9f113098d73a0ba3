"""Pre-training texts in LXMERT's files: captions and questions of every image, and its TSV of regions with classes."""

import base64
import random
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np

from vlx.corpora.answers import get_score
from vlx.corpora.formats.annotations.lxmert import convert_answer
from vlx.corpora.regions import DETECTOR
from vlx.synthetic.captions import captions, region_descriptions
from vlx.synthetic.images import COLOURS, IMAGE_SIZE, SHAPES, ImageShapes
from vlx.synthetic.questions import GQA_MAKERS, VQA_MAKERS, generate_questions, human_answers
from vlx.synthetic.records import IMAGES_PER_PART, Record, Splits, write_json

SPLITS = ("mscoco_train", "mscoco_minival")
COCO_SPLITS = ("train2014", "val2014")  # of the images, in the order of SPLITS
QUESTIONS = 2  # of an image, from VQA's and from GQA's makers each
BOX_SHARE = {"circle": 0.78, "square": 1.0, "triangle": 0.54}  # share of its box that a shape covers
COLOUR_SCALE = 0.02  # squared distance in RGB, each in 0..1, at which a colour is e times less likely
SHARE_SCALE = 0.005  # squared distance of box shares at which a shape is e times less likely


def image_name(image_id: int) -> str:
    return f"COCO_{COCO_SPLITS[min(image_id // IMAGES_PER_PART, 1)]}_{image_id:012d}"


def pretraining_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return captions, region descriptions, VQA questions with soft scores and GQA questions with one answer, in
    about the proportions of LXMERT's data."""
    records: list[Record] = [{"source": "mscoco", "text": text} for text in captions(rng, shapes)]
    records += [{"source": "vg", "text": text} for text in region_descriptions(rng, shapes)]
    for question in generate_questions(rng, shapes, makers=VQA_MAKERS, most=QUESTIONS):
        votes = Counter(map(convert_answer, human_answers(rng, question)))
        scores = {answer: get_score(count) for answer, count in votes.items()}
        records.append({"source": "vqa", "text": question.text, "label": scores})
    for question in generate_questions(rng, shapes, makers=GQA_MAKERS, most=QUESTIONS):
        records.append({"source": "gqa", "text": question.text, "label": {convert_answer(question.answer): 1.0}})
    return [{"image_id": image_id} | record for record in records]


def write_texts(folder: Path, splits: Splits) -> None:
    """Write the texts of every split, and all_ans.json: each answer with the data sets that have it."""
    (folder / "lxmert").mkdir()
    for split, records in splits.items():
        groups = groupby(records, key=lambda record: record["image_id"])
        images = [image_texts(image_id, list(group)) for image_id, group in groups]
        write_json(folder / "lxmert" / f"{split}.json", images)
    sources: dict[str, set[str]] = {}
    for record in sum(splits.values(), []):
        for answer in record.get("label", ()):
            sources.setdefault(answer, set()).add(record["source"])
    table = [{"ans": answer, "dsets": sorted(sources[answer])} for answer in sorted(sources)]
    write_json(folder / "lxmert" / "all_ans.json", table)


def image_texts(image_id: int, records: list[Record]) -> Record:
    """Return the texts and the answers of an image by source."""
    texts: dict[str, list[str]] = {}
    labels: dict[str, list[dict[str, float]]] = {}
    for record in records:
        texts.setdefault(record["source"], []).append(record["text"])
        if "label" in record:
            labels.setdefault(record["source"], []).append(record["label"])
    return {"img_id": image_name(image_id), "sentf": texts, "labelf": labels}


def write_regions(folder: Path, regions: dict[str, np.ndarray]) -> None:
    """Write one TSV for every COCO split and the names of the object classes. regions: rows [R,D+6] by image name."""
    features_folder = folder / "mscoco_imgfeat"
    features_folder.mkdir()
    for coco_split in COCO_SPLITS:
        lines = [tsv_line(name, rows) for name, rows in regions.items() if coco_split in name]
        (features_folder / f"{coco_split}_{DETECTOR}_obj36.tsv").write_bytes(b"".join(lines))
    class_names = "".join(f"{name}\n" for name in SHAPES)
    (features_folder / "objects_vocab.txt").write_text(class_names, encoding="utf-8")


def tsv_line(name: str, rows: np.ndarray) -> bytes:
    """Return img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features."""
    features = rows[:, :-6]
    boxes = rows[:, -6:-2] * IMAGE_SIZE
    shares = np.array([BOX_SHARE[shape] for shape in SHAPES])
    palette = np.array(list(COLOURS.values())) / 255
    shape_scores = -((features[:, 3:4] - shares) ** 2) / SHARE_SCALE
    colour_scores = -((features[:, None, :3] - palette) ** 2).sum(-1) / COLOUR_SCALE
    size = b"%d" % IMAGE_SIZE
    cells = [name.encode(), size, size]
    cells += [base64.b64encode(array.tobytes()) for array in (*classify(shape_scores), *classify(colour_scores))]
    cells += [b"%d" % len(rows), base64.b64encode(boxes.tobytes()), base64.b64encode(features.tobytes())]
    return b"\t".join(cells) + b"\n"


def classify(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeliest class of every region and its probability, from log scores [R,classes]."""
    probabilities = np.exp(scores - scores.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    return probabilities.argmax(1).astype("<i8"), probabilities.max(1).astype("<f4")
