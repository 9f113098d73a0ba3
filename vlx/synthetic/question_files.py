"""Official files of question answering: VQA v2, VQA-RAD, GQA, and Visual Genome's questions as ViLBERT reads them."""

import pickle
import random
from pathlib import Path

from vlx.synthetic.images import ImageShapes
from vlx.synthetic.questions import (
    ANSWER_TYPES,
    GQA_MAKERS,
    VQA_MAKERS,
    Question,
    generate_questions,
    human_answers,
    scene_graph,
)
from vlx.synthetic.records import Record, Splits, without, write_json

VQA_QUESTIONS = 5  # of an image
GQA_QUESTIONS = 4  # of an image, without the entailed ones
RAD_PHRASE_TYPES = {"train": "freeform", "val": "freeform", "test": "test_freeform"}  # the reader splits train


def vqa_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    questions = generate_questions(rng, shapes, makers=VQA_MAKERS, most=VQA_QUESTIONS)
    return [
        {
            "image_id": image_id,
            "question_id": image_id * 10 + index,
            "question": question.text,
            "question_type": " ".join(question.text.lower().split()[:2]),
            "multiple_choice_answer": question.answer,
            "answer_type": ANSWER_TYPES.get(question.answer, "other"),
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": answer_id}
                for answer_id, answer in enumerate(human_answers(rng, question), 1)
            ],
        }
        for index, question in enumerate(questions)
    ]


def write_vqa(folder: Path, splits: Splits) -> None:
    for split, records in splits.items():
        header = {
            "info": {"description": "drawn shapes"},
            "data_type": "mscoco",
            "data_subtype": split,
            "license": {},
        }
        questions = [{key: record[key] for key in ("image_id", "question_id", "question")} for record in records]
        annotations = [without(record, "question") for record in records]
        write_json(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", header | {"questions": questions})
        write_json(folder / f"v2_mscoco_{split}_annotations.json", header | {"annotations": annotations})


def vqa_rad_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return questions with one answer each."""
    questions = generate_questions(rng, shapes, makers=VQA_MAKERS, most=VQA_QUESTIONS)
    return [
        {
            "image_id": image_id,
            "qid": image_id * 10 + index,
            "image_name": f"{image_id}.png",
            "question": question.text,
            "answer": question.answer,
            "question_type": question.structural,
            "answer_type": "CLOSED" if question.answer in ANSWER_TYPES else "OPEN",
        }
        for index, question in enumerate(questions)
    ]


def write_vqa_rad(folder: Path, splits: Splits) -> None:
    """Write train and validation as the official train split, of which the reader holds images out."""
    rows = [
        record | {"phrase_type": RAD_PHRASE_TYPES[split]} for split, records in splits.items() for record in records
    ]
    write_json(folder / "VQA_RAD Dataset Public.json", rows)


def genome_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return questions with one answer each."""
    questions = generate_questions(rng, shapes, makers=VQA_MAKERS, most=VQA_QUESTIONS)
    return [
        {"image_id": image_id, "question_id": question_id, "question": question.text, "answer": question.answer}
        for question_id, question in enumerate(questions, image_id * 10)
    ]


def write_genome(folder: Path, splits: Splits) -> None:
    """Write the questions in the order of their ids, of which the reader takes the last as validation."""
    records = [record for split_records in splits.values() for record in split_records]
    answers = sorted({record["answer"] for record in records})
    labels = {answer: label for label, answer in enumerate(answers)}
    entries = [record | {"labels": [labels[record["answer"]]], "scores": [1.0]} for record in records]
    (folder / "cache").mkdir()
    (folder / "cache" / "trainval_target.pkl").write_bytes(pickle.dumps(entries))
    (folder / "cache" / "trainval_label2ans.pkl").write_bytes(pickle.dumps(answers))


def gqa_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return questions, each followed by the question that it entails; the first record has the scene graph."""
    records: list[Record] = []
    for question in generate_questions(rng, shapes, makers=GQA_MAKERS, most=GQA_QUESTIONS):
        record = gqa_record(question, image_id=image_id, index=len(records))
        records.append(record)
        if question.entails:
            entailed = gqa_record(question.entails, image_id=image_id, index=len(records))
            records.append(entailed)
            record["entailed"].append(entailed["question_id"])
    records[0]["scene_graph"] = scene_graph(shapes)
    return records


def gqa_record(question: Question, *, image_id: int, index: int) -> Record:
    question_id = f"{image_id * 10 + index:08d}"
    objects = {str(number): str(number) for number in question.shape_indices}
    argument = f"shape ({','.join(objects) or '-'})"
    candidates = [question.answer, *question.wrong_answers]
    return {
        "image_id": image_id,
        "question_id": question_id,
        "imageId": str(image_id),
        "question": question.text,
        "answer": question.answer,
        "fullAnswer": f"It is {question.answer}.",
        "isBalanced": True,
        "semantic": [{"operation": "select", "dependencies": [], "argument": argument}],
        "semanticStr": f"select: {argument}",
        "entailed": [],
        "equivalent": [question_id],
        "groups": {"global": question.semantic, "local": f"{image_id}-{question.structural}"},
        "types": {
            "structural": question.structural,
            "semantic": question.semantic,
            "detailed": question.semantic + question.structural.title(),
        },
        "annotations": {"question": objects, "answer": {}, "fullAnswer": {}},
        "choices": {"valid": candidates, "plausible": candidates},
    }


def write_gqa(folder: Path, splits: Splits) -> None:
    """Write questions, choices and, as published, scene graphs of all splits but testdev."""
    for split, records in splits.items():
        graphs = {record["imageId"]: record.pop("scene_graph") for record in records if "scene_graph" in record}
        choices = {record["question_id"]: record.pop("choices") for record in records}
        for record in records:  # the last questions of the last image may be cut off
            record["entailed"] = [number for number in record["entailed"] if number in choices]
        questions = {record["question_id"]: without(record, "question_id", "image_id") for record in records}
        write_json(folder / f"{split}_choices.json", choices)
        write_json(folder / f"{split}_balanced_questions.json", questions)
        if split != "testdev":
            write_json(folder / f"{split}_sceneGraphs.json", graphs)
