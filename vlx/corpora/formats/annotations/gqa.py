"""GQA as published: questions made from scene graphs, with one answer each.

<source>/{train,val,testdev,test,challenge,submission}_balanced_questions.json   objects by question id; at least one
<source>/{train,val}_sceneGraphs.json                                            optional: boxes of objects
<source>/{train,val,testdev}_choices.json                                        optional: answers that are valid and
                                                                                 plausible, by question
regions and images                                                               by Visual Genome's ids (sources.py)

Of a split without balanced questions all are read: <split>_all_questions.json, or the folder <split>_all_questions.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlx.corpora.formats.folders import existing_files, files_under
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import Record, as_object, load_json, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "val", "testdev", "test", "challenge", "submission")
VOCABULARY_SPLITS = ("train", "val")  # splits whose answers make the vocabulary
LABELED_SPLITS = ("train", "val", "testdev")  # splits with published answers
OPTIONAL_FILES = {"graphs": "sceneGraphs.json", "choices": "choices.json"}
QUESTION_FILES = ("_balanced_questions.json", "_all_questions.json", "_all_questions")  # by preference
CHOICES = ("valid", "plausible")
EXTRA_FIELDS = {
    "types": dict, "groups": dict, "isBalanced": bool, "fullAnswer": str,
    "semantic": list, "entailed": list, "equivalent": list,
}  # fmt: skip
Boxes = dict[str, dict[str, list[float]]]  # image id -> object id -> x1 y1 x2 y2
MAX_PIXELS = 1 << 20


def find(folder: Path) -> Files:
    names = {f"{split}{suffix}": f"{split}{suffix}" for suffix in QUESTION_FILES for split in SPLITS}
    paths = existing_files(folder, names)
    files = {role.partition("_")[0]: paths[role] for role in reversed(paths)}  # the preferred file replaces the others
    optional = {
        f"{split} {role}": folder / f"{split}_{name}" for split in files for role, name in OPTIONAL_FILES.items()
    }
    return files | {role: path for role, path in optional.items() if path.is_file()} | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write questions, the vocabulary and images; returns the detector's name."""
    mentions: dict[str, str] = {}
    table: dict[str, None] = {}  # answers in the order of their first appearance
    for split in [name for name in SPLITS if name in files]:
        boxes = scene_graphs(files[f"{split} graphs"]) if f"{split} graphs" in files else None
        rows = questions(files[split], split, boxes, mentions, table)
        choices = files.get(f"{split} choices")
        writer.add_examples("gqa", split, with_choices(rows, choices) if choices else rows)
    if table:
        writer.add_answers("gqa", list(table))
    return add_images(writer, files, mentions)


def questions(
    source: Path, split: str, boxes: Boxes | None, mentions: dict[str, str], table: dict[str, None]
) -> Iterator[Example]:
    """A split. Image ids are added to `mentions`, and the answers of training splits to `table`."""
    seen: set[str] = set()
    for path in files_under([source]):
        for number, value in load_json(path, dict).items():
            where = f"{path}: question {ascii(number)[1:-1]}"
            unique(text_field({"id": number}, "id", where), seen, where, "question")
            record = as_object(value, where)
            row = question(record, number, split, where)
            mentions.setdefault(row.image_ids[0], f"question {number}")
            if split in VOCABULARY_SPLITS:
                table |= dict.fromkeys(row.answers)
            if boxes is not None:
                row = row._replace(boxes=object_boxes(record, boxes.get(row.image_ids[0], {}), where))
            yield row


def question(record: Record, number: str, split: str, where: str) -> Example:
    """One question without boxes."""
    text = text_field(record, "question", where)
    image = official_id(record, "imageId", where)
    has_answer = split in LABELED_SPLITS or "answer" in record
    answers = [text_field(record, "answer", where)] if has_answer else []
    extra = {key: checked(record, key, where) for key in EXTRA_FIELDS if key in record}
    category = text_field(extra["types"], "structural", where) if extra.get("types") else ""
    row = Example(number, text, [image], answers, [1.0] * len(answers), category=category)
    return row._replace(extra=json.dumps(extra) if extra else "")


def with_choices(rows: Iterator[Example], path: Path) -> Iterator[Example]:
    """The rows with, in `extra`, the answers that the official script counts as valid and as plausible."""
    choices = load_json(path, dict)
    for row in rows:
        where = f"{path}: question {ascii(row.identifier)[1:-1]}"
        answers_by_kind = {key: as_object(choices.get(row.identifier), where).get(key) for key in CHOICES}
        for key, answers in answers_by_kind.items():
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                raise CorpusError(f"{where}: {key} is {ascii(answers)[:60]}, expected answers. Get the file again.")
        yield row._replace(extra=json.dumps(json.loads(row.extra or "{}") | answers_by_kind))


def checked(record: Record, key: str, where: str) -> Any:
    """One of EXTRA_FIELDS, of its type."""
    value = record[key]
    numbers = value if key in ("entailed", "equivalent") and isinstance(value, list) else ()
    kind = EXTRA_FIELDS[key]
    if not isinstance(value, kind) or not all(isinstance(number, str) for number in numbers):
        raise CorpusError(f"{where}: {key} is {ascii(value)[:60]}, expected {kind.__name__}. Correct the file.")
    return value


def object_boxes(record: Record, boxes: Mapping[str, list[float]], where: str) -> list[list[float]]:
    """Boxes of the objects that the question and its full answer name, each once, for the official grounding score."""
    parts = as_object(record.get("annotations", {}), f"{where}: annotations")
    names_by_word = [as_object(parts.get(key, {}), f"{where}: annotations") for key in ("question", "fullAnswer")]
    names = dict.fromkeys(str(name) for part in names_by_word for name in part.values())
    if absent := [name for name in names if name not in boxes]:
        raise CorpusError(f"{where}: object {absent[0]!a} is not in its image's scene graph. Get the graphs again.")
    return [boxes[name] for name in names]


def scene_graphs(path: Path) -> Boxes:
    """Boxes x1 y1 x2 y2 in 0..1 of every object; what lies outside the image is cut off."""
    by_image: Boxes = {}
    for image, graph in load_json(path, dict).items():
        where = f"{path}: image {ascii(image)[1:-1]}"
        width, height = pixels(graph, ("width", "height"), where, minimum=1)
        by_image[image] = {}
        for name, record in as_object(graph.get("objects"), f"{where}: objects").items():
            x, y, w, h = pixels(record, ("x", "y", "w", "h"), f"{where}: object {ascii(name)[1:-1]}")
            corners = (x / width, y / height, (x + w) / width, (y + h) / height)
            by_image[image][name] = [min(max(value, 0.0), 1.0) for value in corners]
    return by_image


def pixels(record: Any, keys: tuple[str, ...], where: str, *, minimum: int = 0) -> list[float]:
    """Numbers, of which width and height, the last two, are `minimum` or more."""
    values: list[Any] = [as_object(record, where).get(key) for key in keys]
    are_numbers = all(type(value) in (int, float) and abs(value) < MAX_PIXELS for value in values)
    if not are_numbers or min(values[-2:]) < minimum:
        raise CorpusError(f"{where}: {', '.join(keys)} are {ascii(values)[:60]}, expected pixels. Get the file again.")
    return values


GQA = Format(find, read, id_space="visual_genome")
