"""Small sources of the formats that no research code owns, and what every test of a reader asks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files import png, write_lines
from vlx import corpora
from vlx.errors import CorpusError


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_pictures(folder: Path, *names: str) -> None:
    """Image N is 10+N wide and 10 high."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(png((10 + number, 10)))


def prepare(format: str, source: Path) -> corpora.Corpus:
    return corpora.prepare(format, source, source.parent / "corpus")


def refused(format: str, source: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(format, source)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in source.parent.iterdir()) == [source.name], "something half-written is left"


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file, or of json lines as a list."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        change(rows)
        write_lines(path, rows)
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        write_json(path, content)


def row_of(corpus: corpora.Corpus, task: str, split: str, identifier: str) -> dict[str, Any]:
    return next(row for row in corpus.examples(task, split) if row["identifier"] == identifier)


# What a file can hold instead of the annotations it should: content and what is said of it. {} is the file's name.
NO_JSON = [
    pytest.param(b"", "{}: not JSON", id="empty"),
    pytest.param(b'{"questions": [{"im', "{}: not JSON", id="cut"),
    pytest.param(b"[" * 100_000, "{}: not JSON", id="deep"),
    pytest.param(b"\xff\xfe\x00", "{}: not JSON", id="bytes"),
    pytest.param(b'{"a": 1, "a": 2}', "{}: not JSON .'a' twice in one object", id="key twice"),
    pytest.param(b"3", "{}: found int, expected a JSON", id="number"),
    pytest.param(b"[]", "{}: found (nothing in it|list), expected a JSON", id="empty list"),
    pytest.param(b"{}", "{}: found (nothing in it|dict), expected a JSON", id="empty object"),
]


def vqa_annotation(number: int, image: int, answer: str, humans: list[str]) -> dict[str, Any]:
    return {
        **{"question_id": number, "image_id": image, "question_type": "is it", "answer_type": "other"},
        "multiple_choice_answer": answer,
        "answers": [{"answer": said, "answer_confidence": "yes", "answer_id": at} for at, said in enumerate(humans, 1)],
    }


def write_vqa(folder: Path) -> Path:
    """Ten times Yes. in train, nine times a dog in val, one question without annotations in test and in test-dev."""
    humans = {"train2014": ["yes"] * 4 + ["no"] * 6, "val2014": ["dog"] * 3 + ["a dog"] * 4 + ["yes"] + ["cat"] * 2}
    told = {"train2014": ("Yes.", 10, 9), "val2014": ("a dog", 9, 42)}
    for split, (answer, count, image) in told.items():
        ids = [image * 1000 + index for index in range(count)]
        asked = [{"question_id": number, "image_id": image, "question": f"Is it number {number}?"} for number in ids]
        write_json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": asked})
        known = [vqa_annotation(number, image, answer, humans[split]) for number in ids]
        write_json(folder / f"v2_mscoco_{split}_annotations.json", {"annotations": known})
    asked = [{"question_id": 1000, "image_id": 1, "question": "What is it?"}]
    for split in ("test2015", "test-dev2015"):
        write_json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": asked})
    for split, image in (("train2014", 9), ("val2014", 42), ("test2015", 1)):
        write_pictures(folder / split, f"COCO_{split}_{image:012d}.png")
    return folder


def gqa_question(image: str, answer: str, **others: Any) -> dict[str, Any]:
    types = {"structural": "query", "semantic": "attr", "detailed": "categoryAttr"}
    return {
        **{"imageId": image, "question": f"What is on {image}?", "answer": answer, "fullAnswer": f"It is {answer}."},
        **{"types": types, "semantic": [{"operation": "select"}], "entailed": [], "equivalent": []},
        **{"groups": {"global": None, "local": "9-x"}, "isBalanced": True},
        "annotations": {"question": {"2": "77"}, "answer": {}, "fullAnswer": {"1": "77", "3": "78"}},
        **others,
    }


def write_gqa(folder: Path) -> Path:
    """Two questions in train, with a scene graph; one in val and testdev; one without an answer in test."""
    splits = {
        "train": {
            "00401": gqa_question("2375429", "red", entailed=["00402"]),
            "00402": gqa_question("2375429", "no"),
        },
        "val": {"00500": gqa_question("9", "red")},
        "testdev": {"2011": gqa_question("n16131", "blue")},
        "test": {"3000": {"imageId": "n7", "question": "Is it red?"}},
    }
    for split, questions in splits.items():
        write_json(folder / f"{split}_balanced_questions.json", questions)
    box, small = {"name": "dog", "x": 0, "y": 10, "w": 50, "h": 40}, {"x": 90, "y": 0, "w": 20, "h": 10}
    graph = {"width": 100, "height": 50, "objects": {"77": box, "78": small, "79": box}}
    write_json(folder / "train_sceneGraphs.json", {"2375429": graph})
    write_pictures(folder / "images", "2375429.png", "9.png", "n16131.png", "n7.png")
    return folder


def write_coco(folder: Path) -> Path:
    """An image in each of Karpathy's splits, with two captions each."""
    images, splits = [], ("train", "restval", "val", "test")
    for number, split in enumerate(splits, 41):
        said = [{"raw": f"Caption {index} of {number}.", "sentid": number * 10 + index} for index in (0, 1)]
        name = {"filename": f"COCO_val2014_{number:012d}.png", "filepath": "val2014", "cocoid": number}
        images.append({**name, "split": split, "imgid": number, "sentids": [], "sentences": said})
    write_json(folder / "dataset_coco.json", {"dataset": "coco", "images": images})
    write_pictures(folder / "val2014", *(image["filename"] for image in images))
    return folder


def write_flickr8k(folder: Path, pictures: int = 20) -> Path:
    """Two captions an image; the second has a comma, so it is quoted."""
    names = [f"{number}_ab.jpg" for number in range(pictures)]
    lines = [f'{name},A dog .\n{name},"A dog , and {number} cats ."\n' for number, name in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.txt").write_text("image,caption\n" + "".join(lines), encoding="utf-8")
    write_pictures(folder / "Images", *names)
    return folder


def write_snli_ve(folder: Path) -> Path:
    """Four labels of one image in dev, two of another in test."""
    labels = ("contradiction", "neutral", "entailment", "-")
    for split, image, count in (("dev", "4705", 4), ("test", "99", 2)):
        rows = [
            {
                **{"Flickr30K_ID": image, "pairID": f"{image}.jpg#0r{index}", "gold_label": labels[index]},
                **{"sentence1": "A premise.", "sentence2": f"Hypothesis {index}.", "annotator_labels": []},
            }
            for index in range(count)
        ]
        write_lines(folder / f"snli_ve_{split}.jsonl", rows)
    write_pictures(folder / "flickr30k_images", "4705.jpg", "99.jpg")
    return folder


def write_vqa_rad(folder: Path, pictures: int = 20) -> Path:
    """Two questions an image: yes or no, and which."""
    rows = []
    for number in range(pictures):
        image = {"image_name": f"synpic{number}.jpg", "image_organ": "HEAD", "phrase_type": "freeform"}
        closed = {"qid": 2 * number, "question": "Is it red?", "answer": "Yes", "answer_type": "CLOSED "}
        opened = {"qid": str(2 * number + 1), "question": "Which?", "answer": f"the {number}", "answer_type": "OPEN"}
        rows += [image | closed | {"question_type": "PRES"}, image | opened | {"question_type": "POS"}]
    write_json(folder / "VQA_RAD Dataset Public.json", rows)
    write_pictures(folder / "VQA_RAD Image Folder", *(f"synpic{number}.jpg" for number in range(pictures)))
    return folder


def write_clip_vil(folder: Path) -> Path:
    """LXMERT's annotations of an image of COCO and one of Visual Genome that have the same number."""
    coco, genome = "COCO_train2014_000000000042", "42"
    asked = {"question_id": 1, "img_id": coco, "sent": "Is it red?", "label": {"yes": 1.0}}
    write_json(folder / "vqa" / "train.json", [asked | {"answer_type": "yes/no", "question_type": "is it"}])
    write_json(folder / "vqa" / "trainval_label2ans.json", ["yes", "no"])
    sentences = [
        {"img_id": coco, "sentf": {"mscoco": ["A red box."], "vqa": ["Is it red?"]}, "labelf": {"vqa": [{"yes": 1}]}},
        {"img_id": genome, "sentf": {"vg": ["A green box."]}, "labelf": {}},
        {"img_id": "43", "sentf": {"vg": ["Nobody can read this image."]}, "labelf": {}},
    ]
    write_json(folder / "lxmert" / "mscoco_train.json", sentences[:1])
    write_json(folder / "lxmert" / "vgnococo.json", sentences[1:])
    write_json(folder / "lxmert" / "all_ans.json", [{"ans": "yes", "dsets": ["vqa"]}])
    write_pictures(folder / "mscoco" / "train2014", f"{coco}.png")
    write_pictures(folder / "vg_raw_images" / "VG_100K", "0.png", f"{genome}.png")
    sizes = {f"data/mscoco/train2014/{coco}.jpg": [10, 10], f"data/vg_raw_images/VG_100K/{genome}.jpg": [10, 11]}
    write_json(folder / "mscoco" / "width_heigths.json", sizes)
    return folder


# Of every format: how to write a source, and the annotation file that tests damage.
SOURCES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "vqa": (write_vqa, "v2_mscoco_train2014_annotations.json"),
    "gqa": (write_gqa, "train_balanced_questions.json"),
    "coco-captions": (write_coco, "dataset_coco.json"),
    "flickr8k": (write_flickr8k, "captions.txt"),
    "snli-ve": (write_snli_ve, "snli_ve_dev.jsonl"),
    "vqa-rad": (write_vqa_rad, "VQA_RAD Dataset Public.json"),
    "clip-vil-pretrain": (write_clip_vil, "mscoco/width_heigths.json"),
}
