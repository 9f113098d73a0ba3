"""GQA as published: questions made from scene graphs, with one answer each.

<source>/{train,val,testdev,test,challenge,submission}_balanced_questions.json   objects by question id; one will do
<source>/{train,val}_sceneGraphs.json                                            where there are any: boxes of objects
<source>/{train,val,testdev}_choices.json                                        where there are any: answers that
                                                                                 are valid and plausible, by question
regions and pictures                                                             by Visual Genome's ids (sources.py)

Of a split without balanced questions all are read: <split>_all_questions.json, or the folder <split>_all_questions.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlx.corpora.formats.files import Format, field, load_json, mapping, members, some_of, unique, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "val", "testdev", "test", "challenge", "submission")
LEARNT, LABELLED = SPLITS[:2], SPLITS[:3]  # whose answers make the vocabulary, and whose are published
BESIDE = {"graphs": "sceneGraphs.json", "choices": "choices.json"}
BALANCED, ALL = ("_balanced_questions.json",), ("_all_questions.json", "_all_questions")
CHOICES = ("valid", "plausible")
KINDS = {"types": dict, "groups": dict, "isBalanced": bool, "fullAnswer": str}  # what of a question is kept besides
KINDS |= dict.fromkeys(("semantic", "entailed", "equivalent"), list)
Boxes = dict[str, dict[str, list[float]]]  # of every object of every image
FARTHEST = 1 << 20  # pixels


def find(folder: Path) -> dict[str, Path]:
    paths = some_of(folder, {f"{split}{kind}": f"{split}{kind}" for kind in BALANCED + ALL for split in SPLITS})
    found = {role.partition("_")[0]: paths[role] for role in reversed(paths)}
    beside = {f"{split} {role}": folder / f"{split}_{name}" for split in found for role, name in BESIDE.items()}
    return found | {role: path for role, path in beside.items() if path.is_file()} | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write questions, the vocabulary and pictures; returns the detector's name."""
    wanted: dict[str, str] = {}
    table: dict[str, None] = {}  # answers in the order of their first appearance
    for split in [name for name in SPLITS if name in files]:
        boxes = scene_graphs(files[f"{split} graphs"]) if f"{split} graphs" in files else None
        rows = questions(files[split], split, boxes, wanted, table)
        choices = files.get(f"{split} choices")
        writer.add_examples("gqa", split, with_choices(rows, choices) if choices else rows)
    if table:
        writer.add_answers("gqa", list(table))
    return add_images(writer, files, wanted)


def questions(
    source: Path, split: str, boxes: Boxes | None, wanted: dict[str, str], table: dict[str, None]
) -> Iterator[Example]:
    """A split; images are noted in `wanted`, and the answers of splits to learn from in `table`."""
    seen: set[str] = set()
    for path in members([source]):
        for number, value in load_json(path, dict).items():
            where = f"{path}: question {ascii(number)[1:-1]}"
            unique(field({"id": number}, "id", where)[0], seen, where, "question")
            record = mapping(value, where)
            text, image = field(record, "question", where)[0], whole_or_text(record, "imageId", where)
            answers = [field(record, "answer", where)[0]] if split in LABELLED or "answer" in record else []
            table |= dict.fromkeys(answers if split in LEARNT else ())
            wanted.setdefault(image, f"question {number}")
            extra = {key: checked(record, key, where) for key in KINDS if key in record}
            kind = field(extra["types"], "structural", where)[0] if extra.get("types") else ""
            about = [] if boxes is None else object_boxes(record, boxes.get(image, {}), where)
            row = Example(number, text, [image], answers, [1.0] * len(answers), boxes=about, category=kind)
            yield row._replace(extra=json.dumps(extra) if extra else "")


def with_choices(rows: Iterator[Example], path: Path) -> Iterator[Example]:
    """The same; in `extra`, which answers the official script takes for valid and for plausible."""
    choices = load_json(path, dict)
    for row in rows:
        where = f"{path}: question {ascii(row.identifier)[1:-1]}"
        said = {key: mapping(choices.get(row.identifier), where).get(key) for key in CHOICES}
        for key, answers in said.items():
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                raise CorpusError(f"{where}: {key} is {ascii(answers)[:60]}, expected answers. Get the file again.")
        yield row._replace(extra=json.dumps(json.loads(row.extra or "{}") | said))


def checked(record: dict[str, Any], key: str, where: str) -> Any:
    value = record[key]
    numbers = value if key in ("entailed", "equivalent") and isinstance(value, list) else ()
    if not isinstance(value, KINDS[key]) or not all(isinstance(number, str) for number in numbers):
        raise CorpusError(f"{where}: {key} is {ascii(value)[:60]}, expected {KINDS[key].__name__}. Correct the file.")
    return value


def object_boxes(record: dict[str, Any], boxes: Mapping[str, list[float]], where: str) -> list[list[float]]:
    """Of the objects that the question and its full answer name, each once: where the official script looks."""
    parts = mapping(record.get("annotations", {}), f"{where}: annotations")
    words = [mapping(parts.get(key, {}), f"{where}: annotations") for key in ("question", "fullAnswer")]
    named = dict.fromkeys(str(name) for part in words for name in part.values())
    if absent := [name for name in named if name not in boxes]:
        raise CorpusError(f"{where}: object {absent[0]!a} is not in its image's scene graph. Get the graphs again.")
    return [boxes[name] for name in named]


def scene_graphs(path: Path) -> Boxes:
    """x1 y1 x2 y2 in 0..1; what is outside of the picture is cut off."""
    found: Boxes = {}
    for image, graph in load_json(path, dict).items():
        where = f"{path}: image {ascii(image)[1:-1]}"
        width, height = pixels(graph, ("width", "height"), where, least=1)
        boxes = found[image] = {}
        for name, one in mapping(graph.get("objects"), f"{where}: objects").items():
            x, y, w, h = pixels(one, ("x", "y", "w", "h"), f"{where}: object {ascii(name)[1:-1]}")
            corners = (x / width, y / height, (x + w) / width, (y + h) / height)
            boxes[name] = [min(max(value, 0.0), 1.0) for value in corners]
    return found


def pixels(record: Any, keys: tuple[str, ...], where: str, *, least: int = 0) -> list[float]:
    """Numbers, of which width and height, the last two, are `least` or more."""
    values: list[Any] = [mapping(record, where).get(key) for key in keys]
    if not all(type(value) in (int, float) and abs(value) < FARTHEST for value in values) or min(values[-2:]) < least:
        raise CorpusError(f"{where}: {', '.join(keys)} are {ascii(values)[:60]}, expected pixels. Get the file again.")
    return values


FORMATS = {"gqa": Format(find, read)}
