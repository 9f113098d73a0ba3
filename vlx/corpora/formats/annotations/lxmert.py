"""LXMERT's own annotations: questions with soft labels, pairs of images, the sentences of its pre-training.

lxmert-vqa        <source>/vqa/train.json nominival.json minival.json test.json, trainval_label2ans.json
lxmert-gqa        <source>/gqa/train.json valid.json testdev.json submit.json, trainval_label2ans.json
lxmert-nlvr2      <source>/nlvr2/train.json valid.json test.json
lxmert-pretrain   <source>/lxmert/mscoco_train.json mscoco_nominival.json ..., all_ans.json
lxmert-pretrain-vqa-gqa   likewise, with the answers of these sets alone; any of vqa, gqa, visual7w

At least one split is needed; the files may lie in <source> itself. Regions are read from <source>/mscoco_imgfeat and
the like, and from all of the source without such folders. An image without regions is an error, not left out silently.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vlx.corpora.formats.annotations.nlvr2 import IDENTIFIER
from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format, IdSpace
from vlx.corpora.formats.labels import answer_table, binary_label, soft_labels
from vlx.corpora.formats.records import Record, load_json, matched_field, objects, official_id, text_field, unique
from vlx.corpora.formats.sources import IMAGES, REGIONS, add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

UNLABELED_SPLITS = ("test", "submit")  # splits of questions without published answers
QA_SETS = ("vqa", "gqa", "visual7w")  # sources of the answers of all_ans.json
NUMBERS = "one two three four five six seven eight nine ten".split()
SYNONYMS = {"a man": "man", "the man": "man", "a woman": "woman", "the woman": "woman", "grey": "gray"}
SYNONYMS |= {word: str(number) for number, word in enumerate(NUMBERS, 1)}


class AnnotationFiles(NamedTuple):
    """Where a task's files lie. region_folders: <name>_imgfeat; vocabulary: the file of answers, if any."""

    folder: str
    splits: tuple[str, ...]
    region_folders: tuple[str, ...]
    vocabulary: str = ""


VQA_FILES = AnnotationFiles(
    "vqa", ("train", "nominival", "minival", "test"), ("mscoco",), vocabulary="trainval_label2ans.json"
)
GQA_FILES = AnnotationFiles(
    "gqa", ("train", "valid", "testdev", "submit"), ("vg_gqa",), vocabulary="trainval_label2ans.json"
)
NLVR2_FILES = AnnotationFiles("nlvr2", ("train", "valid", "test"), ("nlvr2",))
PRETRAIN_FILES = AnnotationFiles(
    "lxmert",
    ("mscoco_train", "mscoco_nominival", "mscoco_minival", "vgnococo"),
    ("mscoco", "vg_gqa"),
    vocabulary="all_ans.json",
)


def find(folder: Path, annotations: AnnotationFiles) -> Files:
    """The splits that exist, the vocabulary, regions and images."""
    home = folder / annotations.folder if (folder / annotations.folder).is_dir() else folder
    first_existing(home, *(f"{split}.json" for split in annotations.splits))
    files = {split: path for split in annotations.splits if (path := home / f"{split}.json").is_file()}
    if annotations.vocabulary:
        files["vocabulary"] = first_existing(home, annotations.vocabulary)
    if (home / "trainval_ans2label.json").is_file():
        files["inverse"] = home / "trainval_ans2label.json"
    names = [f"{name}_imgfeat" for name in annotations.region_folders]
    region_roles = [f"{REGIONS}{name}/" for name in names if (folder / name).is_dir()]
    prefixes = (*region_roles, IMAGES) if region_roles else ("",)
    return files | {role: path for role, path in find_images(folder).items() if role.startswith(prefixes)}


def read_questions(files: Files, writer: CorpusWriter, *, task: str, annotations: AnnotationFiles) -> str:
    """VQA or GQA. Returns the detector's name."""
    inverse = load_json(files["inverse"], dict) if "inverse" in files else None
    vocabulary = files["vocabulary"]
    writer.add_answers(task, answer_table(load_json(vocabulary, list), str(vocabulary), inverse))
    return add_splits(files, writer, questions, task=task, annotations=annotations)


def read_nlvr2(files: Files, writer: CorpusWriter) -> str:
    return add_splits(files, writer, pairs, task="nlvr2", annotations=NLVR2_FILES)


def add_splits(
    files: Files, writer: CorpusWriter, rows_of: Callable[[Path], list[Example]],
    *, task: str, annotations: AnnotationFiles,
) -> str:  # fmt: skip
    """Write the splits and the images that they mention; returns the detector's name."""
    splits = {split: rows_of(files[split]) for split in annotations.splits if split in files}
    mentions = {
        name: f"{split} {row.identifier}" for split in splits for row in splits[split] for name in row.image_ids
    }
    for split, rows in splits.items():
        writer.add_examples(task, split, rows)
    return add_images(writer, files, mentions)


def questions(path: Path) -> list[Example]:
    """A split of VQA or GQA."""
    rows = []
    seen: set[str] = set()
    for where, record in objects(load_json(path, list), path):
        identifier = unique(official_id(record, "question_id", where), seen, where, "question_id")
        text = text_field(record, "sent", where)
        image = official_id(record, "img_id", where)
        is_unlabeled = path.stem in UNLABELED_SPLITS and "label" not in record
        answers = {} if is_unlabeled else soft_labels(record.get("label"), where)
        types = {key: text_field(record, key, where) for key in ("answer_type", "question_type") if key in record}
        row = Example(identifier, text, [image], [*answers], [*answers.values()])
        rows.append(row._replace(category=types.get("answer_type", ""), extra=json.dumps(types) if types else ""))
    return rows


def pairs(path: Path) -> list[Example]:
    """A split of NLVR2. A group is a statement over its pairs, as in the official files."""
    rows = []
    seen: set[str] = set()
    for where, record in objects(load_json(path, list), path):
        match = matched_field(record, "identifier", where, IDENTIFIER, "<split>-<set>-<pair>-<sentence>")
        images = [text_field(record, key, where) for key in ("img0", "img1")]
        text = text_field(record, "sent", where)
        label = binary_label(record, where)
        group = f"{match[1]}-{match[2]}--{match[4]}"
        rows.append(Example(unique(match[0], seen, where), text, images, label=label, group=group))
    return rows


def read_pretraining(files: Files, writer: CorpusWriter, *, qa_sets: tuple[str, ...]) -> str:
    """With the answers of all_ans.json that come from one of `qa_sets`."""
    table = pretraining_answers(files["vocabulary"], qa_sets)
    writer.add_answers("pretrain", table)
    mentions: dict[str, str] = {}
    for split in [name for name in PRETRAIN_FILES.splits if name in files]:
        writer.add_examples("pretrain", split, sentences(files[split], frozenset(table), mentions))
    return add_images(writer, files, mentions)


def pretraining_answers(path: Path, qa_sets: tuple[str, ...]) -> list[str]:
    answers = []
    for where, record in objects(load_json(path, list), path):
        sets = record.get("dsets")
        if not isinstance(sets, list) or not all(name in QA_SETS for name in sets):
            raise CorpusError(f"{where}: dsets is {ascii(sets)[:60]}, expected a list of {', '.join(QA_SETS)}.")
        if set(sets) & set(qa_sets):
            answers.append(record.get("ans"))
    return answer_table(answers, str(path))


def sentences(path: Path, table: frozenset[str], mentions: dict[str, str]) -> Iterator[Example]:
    """Every sentence of every source of every image; image ids are added to `mentions`. Answers outside the table are
    left out; `labeled` in extra distinguishes a question without answers from a caption."""
    seen: set[str] = set()
    for where, record in objects(load_json(path, list), path):
        image = unique(text_field(record, "img_id", where), seen, where, "img_id")
        mentions.setdefault(image, where)
        yield from sentences_of_image(record, image, table, where)


def sentences_of_image(record: Record, image: str, table: frozenset[str], where: str) -> Iterator[Example]:
    texts = record.get("sentf")
    labels = record.get("labelf", {})
    if not isinstance(texts, dict) or not isinstance(labels, dict) or labels.keys() - texts.keys():
        raise CorpusError(f"{where}: sentf and labelf are not objects of the same sources. Correct the record.")
    for source, lines in texts.items():
        labels_of_lines = labels.get(text_field({"source": source}, "source", where), lines)
        if not isinstance(lines, list) or not isinstance(labels_of_lines, list) or len(labels_of_lines) != len(lines):
            raise CorpusError(f"{where}: {source} is not a list of sentences with a label each. Correct it.")
        extra = json.dumps({"labeled": True}) if source in labels else ""
        for number, (line, label) in enumerate(zip(lines, labels_of_lines, strict=True)):
            at = f"{where}: {source} {number}"
            text = text_field({"sentence": line}, "sentence", at)
            answers = in_table(soft_labels(label, at), table) if extra else {}
            name = f"{image}_{source}_{number:03d}"
            yield Example(name, text, [image], [*answers], [*answers.values()], category=source, extra=extra)


def in_table(scores: dict[str, float], table: frozenset[str]) -> dict[str, float]:
    """The answers of the table, converted. The score of a converted answer replaces that of an answer which needed no
    conversion (LXMERT, src/pretrain/lxmert_data.py)."""
    unchanged = {answer: score for answer, score in scores.items() if convert_answer(answer) == answer}
    converted = {convert_answer(answer): score for answer, score in scores.items() if answer not in unchanged}
    return {answer: score for answer, score in (unchanged | converted).items() if answer in table}


def convert_answer(answer: str) -> str:
    """Lower case, no full stop, no articles, numbers up to ten as figures (LXMERT, src/pretrain/qa_answer_table.py)."""
    answer = answer.lower()
    answer = answer[:-1].strip() if answer.endswith(".") else answer
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article).strip() if answer.startswith(article) else answer
    return SYNONYMS.get(answer, answer)


def question_format(task: str, annotations: AnnotationFiles, id_space: IdSpace) -> Format:
    read = partial(read_questions, task=task, annotations=annotations)
    return Format(partial(find, annotations=annotations), read, id_space=id_space)


def pretraining_format(*qa_sets: str) -> Format:
    read = partial(read_pretraining, qa_sets=qa_sets)
    return Format(partial(find, annotations=PRETRAIN_FILES), read, id_space="visual_genome")


LXMERT_VQA = question_format("vqa", VQA_FILES, "file_name")
LXMERT_GQA = question_format("gqa", GQA_FILES, "visual_genome")
LXMERT_NLVR2 = Format(partial(find, annotations=NLVR2_FILES), read_nlvr2)
LXMERT_PRETRAIN = pretraining_format(*QA_SETS)
LXMERT_PRETRAIN_VQA = pretraining_format("vqa")
LXMERT_PRETRAIN_GQA = pretraining_format("gqa")
LXMERT_PRETRAIN_VISUAL7W = pretraining_format("visual7w")
LXMERT_PRETRAIN_VQA_GQA = pretraining_format("vqa", "gqa")
LXMERT_PRETRAIN_VQA_VISUAL7W = pretraining_format("vqa", "visual7w")
LXMERT_PRETRAIN_GQA_VISUAL7W = pretraining_format("gqa", "visual7w")
