"""What is said of the pictures, as each task's official files. Numbers of pictures are theirs throughout a corpus."""

import pickle
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlx.corpora.formats.vilbert import GENOME_VAL
from vlx.synthetic import captions, nlvr_files, questions, statements
from vlx.synthetic import lxmert_files as lxmert
from vlx.synthetic import vilbert_files as vilbert
from vlx.synthetic.pictures import PARTS, SHAPES, SIDE, Difficulty, Picture, draw_pictures
from vlx.synthetic.records import PICTURES_OF_A_PART, Record, write_json, write_lines

Drawn = tuple[dict[str, Picture], list[Record]]  # pictures of a set by id, and what is said of them


class Task(NamedTuple):
    """names: of the splits for train, validation and, if it has one, test. draw(rng, split, number, part, level,
    count): a set; write(folder, split -> records): the official files."""

    format: str
    names: tuple[str, ...]
    draw: Callable[[random.Random, str, int, str, Difficulty, int], Drawn]
    write: Callable[[Path, dict[str, list[Record]]], None]
    validation: int = 0  # examples of validation, where the format fixes how many
    regions: Callable[[Path, dict[str, np.ndarray]], None] | None = None  # (folder, image id -> rows [R,D+6])


def draw_statements(rng: random.Random, split: str, number: int, part: str, level: Difficulty, count: int) -> Drawn:
    wanted = min(statements.SENTENCES, -(-count // statements.PAIRS))
    pairs, claims = statements.draw_set(rng, part, level, wanted)
    records = [
        {"identifier": f"{split}-{number}-{pair}-{index}", "synset": kind, "sentence": sentence, "label": str(truth)}
        for index, (sentence, (kind, truths)) in enumerate(claims.items())
        for pair, truth in enumerate(truths)
    ]
    names = {f"{split}-{number}-{place // 2}-img{place % 2}": place for place in range(2 * len(pairs))}
    return {name: pairs[place // 2][place % 2] for name, place in names.items()}, records


def one_by_one(
    say: Callable[[random.Random, Picture, int], list[Record]],
    *, name: Callable[[int], str] = str, least: int = 1,
) -> Callable[..., Drawn]:  # fmt: skip
    """Sets of a task about single pictures of `least` shapes: say(rng, picture, its number) -> records."""

    def draw(rng: random.Random, split: str, number: int, part: str, level: Difficulty, count: int) -> Drawn:
        few, many = level.shapes
        shapes = max(few, least), max(many, least)
        drawn, records = draw_pictures(rng, part, level._replace(shapes=shapes)), list[Record]()
        first = PARTS.index(part) * PICTURES_OF_A_PART + number * len(drawn)
        numbered = dict(enumerate(drawn, first))
        for image, picture in numbered.items():
            records += say(rng, picture, image)
        records = records[:count]
        used = {record["image_id"] for record in records}
        return {name(image): picture for image, picture in numbered.items() if image in used}, records

    return draw


def write_nlvr2(folder: Path, splits: dict[str, list[Record]]) -> None:
    for split, records in splits.items():
        write_lines(folder / f"{split}.json", records)


def say_vqa(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    records = []
    for index, question in enumerate(questions.ask(rng, picture, questions.VQA, 5)):
        answers = questions.human_answers(rng, question)
        about = {"image_id": image, "question_id": image * 10 + index, "question": question.text}
        about |= {
            "question_type": " ".join(question.text.lower().split()[:2]),
            "multiple_choice_answer": question.answer,
        }
        about["answer_type"] = questions.ANSWER_TYPES.get(question.answer, "other")
        given = enumerate(answers, 1)
        about["answers"] = [{"answer": said, "answer_confidence": "yes", "answer_id": number} for number, said in given]
        records.append(about)
    return records


def write_vqa(folder: Path, splits: dict[str, list[Record]]) -> None:
    asked = ("image_id", "question_id", "question")
    for split, records in splits.items():
        info = {"info": {"description": "drawn shapes"}, "data_type": "mscoco", "data_subtype": split, "license": {}}
        found = [{key: record[key] for key in asked} for record in records]
        write_json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", info | {"questions": found})
        found = [{key: value for key, value in record.items() if key != "question"} for record in records]
        write_json(folder / f"v2_mscoco_{split}_annotations.json", info | {"annotations": found})


def say_radiology(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """VQA-RAD's questions have one answer each."""
    return [
        {
            **{"image_id": image, "qid": image * 10 + index, "image_name": f"{image}.png"},
            **{"question": question.text, "answer": question.answer, "question_type": question.structural},
            "answer_type": "CLOSED" if question.answer in questions.ANSWER_TYPES else "OPEN",
        }
        for index, question in enumerate(questions.ask(rng, picture, questions.VQA, 5))
    ]


def write_vqa_rad(folder: Path, splits: dict[str, list[Record]]) -> None:
    """Validation is train's: who reads the file holds pictures out."""
    phrases = {"train": "freeform", "val": "freeform", "test": "test_freeform"}
    found = [record | {"phrase_type": phrases[split]} for split, records in splits.items() for record in records]
    write_json(folder / "VQA_RAD Dataset Public.json", found)


def say_genome(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """Visual Genome's questions have one answer each."""
    found = enumerate(questions.ask(rng, picture, questions.VQA, 5), image * 10)
    return [
        {"image_id": image, "question_id": number, "question": question.text, "answer": question.answer}
        for number, question in found
    ]


def say_gqa(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    records: list[Record] = []
    for question in questions.ask(rng, picture, questions.GQA, 4):
        for asked in filter(None, (question, question.entails)):
            records.append(gqa_record(asked, f"{image * 10 + len(records):08d}", image))
        if question.entails:
            records[-2]["entailed"].append(records[-1]["question_id"])
    records[0]["scene_graph"] = questions.scene_graph(picture)
    return records


def gqa_record(question: questions.Question, number: str, image: int) -> Record:
    objects = {str(index): str(index) for index in question.shapes}
    select = {"operation": "select", "dependencies": [], "argument": f"shape ({','.join(objects) or '-'})"}
    types = {"structural": question.structural, "semantic": question.semantic}
    return {
        **{"image_id": image, "question_id": number, "imageId": str(image), "question": question.text},
        **{"answer": question.answer, "fullAnswer": f"It is {question.answer}.", "isBalanced": True},
        **{
            "semantic": [select],
            "semanticStr": f"select: {select['argument']}",
            "entailed": [],
            "equivalent": [number],
        },
        **{"groups": {"global": question.semantic, "local": f"{image}-{question.structural}"}},
        **{"types": types | {"detailed": question.semantic + question.structural.title()}},
        **{"annotations": {"question": objects, "answer": {}, "fullAnswer": {}}},
        "choices": dict.fromkeys(("valid", "plausible"), [question.answer, *question.others]),
    }


def write_gqa(folder: Path, splits: dict[str, list[Record]]) -> None:
    for split, records in splits.items():
        graphs = {record["imageId"]: record.pop("scene_graph") for record in records if "scene_graph" in record}
        known = {record["question_id"] for record in records}
        for record in records:  # the last picture's questions may be cut
            record["entailed"] = [number for number in record["entailed"] if number in known]
        choices = {record["question_id"]: record.pop("choices") for record in records}
        write_json(folder / f"{split}_choices.json", choices)
        dropped = ("question_id", "image_id")
        found = {record["question_id"]: {k: v for k, v in record.items() if k not in dropped} for record in records}
        write_json(folder / f"{split}_balanced_questions.json", found)
        if split != "testdev":  # as published
            write_json(folder / f"{split}_sceneGraphs.json", graphs)


def say_captions(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    return [{"image_id": image, "raw": text} for text in captions.captions(rng, picture)]


def write_karpathy(folder: Path, splits: dict[str, list[Record]]) -> None:
    """One file for all splits."""
    images: dict[int, Record] = {}
    for split, records in splits.items():
        for record in records:
            image = record["image_id"]
            name = {"filename": f"{image}.png", "filepath": "images", "cocoid": image, "imgid": image, "split": split}
            about = images.setdefault(image, {**name, "sentids": [], "sentences": []})
            number, tokens = image * 10 + len(about["sentids"]), record["raw"].lower().rstrip(".").split()
            about["sentids"].append(number)
            about["sentences"].append({"raw": record["raw"], "tokens": tokens, "imgid": image, "sentid": number})
    write_json(folder / "dataset_coco.json", {"dataset": "coco", "images": list(images.values())})


def say_expressions(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    records = []
    for index in rng.sample(range(len(picture)), len(picture)):
        texts = captions.expressions(rng, picture, index)
        if texts:
            about = {"image_id": image, "ann_id": image * 10 + index, "picture": picture}
            records.append(about | {"texts": [rng.choice(texts)]})
    return records


def write_refcoco(folder: Path, splits: dict[str, list[Record]], *, by: str = "unc") -> None:
    """refs(<who split it>).p and instances.json hold all splits."""
    refs, pictures = [], dict[int, Picture]()
    for split, records in splits.items():
        for record in records:
            image, ann = record["image_id"], record["ann_id"]
            pictures[image] = record["picture"]
            texts = enumerate(record["texts"], ann * 10)
            said = [{"raw": text, "sent": text, "tokens": text.split(), "sent_id": number} for number, text in texts]
            about = {"ref_id": ann, "ann_id": ann, "image_id": image, "split": split, "file_name": f"{image}.png"}
            category = SHAPES.index(pictures[image][ann % 10].shape) + 1
            numbers = [one["sent_id"] for one in said]
            refs.append({**about, "category_id": category, "sentences": said, "sent_ids": numbers})
    (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs))
    size = {"width": SIDE, "height": SIDE}
    content: Record = {"images": [{"id": image, **size, "file_name": f"{image}.png"} for image in pictures]}
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(SHAPES, 1)]
    content["annotations"] = [
        {
            **{"id": image * 10 + index, "image_id": image, "category_id": SHAPES.index(shape.shape) + 1},
            **{"bbox": list(shape.box()), "iscrowd": 0},
        }
        for image, picture in pictures.items()
        for index, shape in enumerate(picture)
    ]
    write_json(folder / "instances.json", content)


def say_hypotheses(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    premise = captions.caption(rng, picture)
    letters = {"entailment": "e", "neutral": "n", "contradiction": "c"}
    return [
        {
            **{"image_id": image, "Flickr30K_ID": str(image), "captionID": f"{image}.jpg#0"},
            **{"pairID": f"{image}.jpg#0r{index}{letters[label]}", "gold_label": label},
            **{"sentence1": premise, "sentence2": text, "annotator_labels": [label]},
        }
        for index, (label, text) in enumerate(captions.hypotheses(rng, picture))
    ]


def write_snli_ve(folder: Path, splits: dict[str, list[Record]]) -> None:
    for split, records in splits.items():
        found = [{key: value for key, value in record.items() if key != "image_id"} for record in records]
        write_lines(folder / f"snli_ve_{split}.jsonl", found)


PLAIN, GAMES, V7W = ("train", "val", "test"), ("train", "valid", "test"), "v7w_{}".format
VCR = one_by_one(vilbert.say_choices, name=vilbert.vcr_number, least=3)
TASKS = {
    "nlvr2": Task("nlvr2", ("train", "dev", "test1"), draw_statements, write_nlvr2),
    "vqa": Task("vqa", ("train2014", "val2014", "test-dev2015"), one_by_one(say_vqa), write_vqa),
    "gqa": Task("gqa", ("train", "val", "testdev"), one_by_one(say_gqa), write_gqa),
    "retrieval": Task("coco-captions", ("train", "val", "test"), one_by_one(say_captions), write_karpathy),
    "refcoco": Task("refcoco", ("train", "val", "testA"), one_by_one(say_expressions), write_refcoco),
    "refcoco+": Task("refcoco+", ("train", "val", "testA"), one_by_one(say_expressions), write_refcoco),
    "refcocog": Task(
        "refcocog", ("train", "val", "test"), one_by_one(say_expressions), partial(write_refcoco, by="umd")
    ),
    "snli_ve": Task("snli-ve", ("train", "dev", "test"), one_by_one(say_hypotheses), write_snli_ve),
    "nlvr": Task("nlvr", ("train", "val", "dev"), nlvr_files.draw_statements, nlvr_files.write_nlvr),
    "vqa_rad": Task("vqa-rad", PLAIN, one_by_one(say_radiology), write_vqa_rad),
    "genome_qa": Task("vilbert-visual-genome-qa", PLAIN[:2], one_by_one(say_genome), vilbert.write_genome, GENOME_VAL),
    "visual7w": Task(
        "vilbert-visual7w", PLAIN, one_by_one(vilbert.say_which, name=V7W, least=4), vilbert.write_visual7w
    ),
    "guesswhat": Task("vilbert-guesswhat", GAMES, one_by_one(vilbert.say_guesses), vilbert.write_guesses),
    "guesswhat_pointing": Task(
        "vilbert-guesswhat-pointing", GAMES, one_by_one(vilbert.say_dialogues, least=3), vilbert.write_dialogues
    ),
    "pretrain": Task(
        "lxmert-pretrain",
        lxmert.SPLITS,
        one_by_one(lxmert.say_all, name=lxmert.name_of),
        lxmert.write_texts,
        regions=lxmert.write_regions,
    ),
    "vcr_q2a": Task("vilbert-vcr-q2a", PLAIN, VCR, vilbert.write_vcr),
    "vcr_qa2r": Task("vilbert-vcr-qa2r", PLAIN, VCR, vilbert.write_vcr),
}
