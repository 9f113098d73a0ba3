"""Oscar's own annotations: a text, the object tags of its image, and answers by number.

oscar-vqa         {train,val,train+val}2014_qla_mrcnn.json {test2015,test-dev2015}_qla_mrcnn.json; without _mrcnn
                  too, then test2014_qla.json; trainval_ans2label.pkl trainval_label2ans.pkl
oscar-gqa         gqa_all_qla_{train,testdev,submission}.json gqa_bal_qla_val.json, as published, or the other of all
                  and bal if it is absent; trainval_testdev_all_ans2label.pkl trainval_testdev_all_label2ans.pkl
oscar-gqa-bal     likewise, balanced questions alone; oscar-gqa-all: all questions
oscar-nlvr2       nlvr2_{train,dev,test1,dev_test1}.json nlvr2_{balanced,unbalanced}_{dev,test1}.json
oscar-retrieval   in oscar_retrieval.py

At least one split is needed, in any folders of the source. <split>_img_*_feats holds the regions of one split (of VQA
test2015 and test-dev2015), any other region file those of all. An answer's label is its position in ans2label, not its
number there, as in Oscar's checkpoints. VQA's questions of train and val without an answer are left out, as in Oscar
(oscar/run_vqa.py), whose score does not count them. Tags are a property of the image, or in `extra` of an example, a
text for each of its images.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vlx.corpora.formats.features.oscar_pt import WITHOUT_BOXES
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.formats.folders import files_under
from vlx.corpora.formats.format import Files, Format, IdSpace
from vlx.corpora.formats.labels import answer_table, binary_label, soft_labels
from vlx.corpora.formats.records import (
    ANSWER,
    Record,
    as_object,
    load_json,
    objects,
    official_id,
    text_field,
    unique,
)
from vlx.corpora.formats.sources import IMAGES, REGIONS, add_images, find_images, with_role
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

VQA_YEARS = {
    "train": "train2014", "val": "val2014", "test": "test2015", "testdev": "test-dev2015", "train+val": "train+val2014",
}  # fmt: skip
GQA_SPLITS = ("train", "val", "testdev", "submission")
NLVR2_SPLITS = (
    "train", "dev", "test1", "dev_test1", "balanced_dev", "unbalanced_dev", "balanced_test1", "unbalanced_test1"
)  # fmt: skip
UNLABELED_SPLITS = ("test", "testdev", "submission")  # splits without published answers
SHARING_SPLITS = ("testdev", "train+val")  # splits whose images belong to other splits
PAIR = re.compile(r"(.+)-\d+-img\d", re.ASCII)  # image of NLVR2: a set, and the number of a pair


class OscarFiles(NamedTuple):
    """splits: split -> file names by preference. tables: what the names of the two pickled answer tables begin with."""

    splits: dict[str, list[str]]
    tables: str = ""


class ImageAdder:
    """Writes the images of each split, and checks that no two splits take an image from different region files."""

    def __init__(self, writer: CorpusWriter, files: Files) -> None:
        self.writer = writer
        self.files = files
        self.detector = "none"
        self.roles_of: dict[str, list[str]] = {}  # image id -> roles of the region files of its split

    def add(
        self, split: str, mentions: dict[str, str], complete: Callable[[RegionRecord], RegionRecord] | None = None
    ) -> None:
        """From the split's own region files, or from all without these. complete: adds to the regions of an image."""
        roles = self.region_roles(split)
        for image in () if split in SHARING_SPLITS else mentions:
            if self.roles_of.setdefault(image, roles) != roles:
                problem = f"{mentions[image]} names image {image}, of another split in {self.roles_of[image][0]}"
                expected = f"expected images of its own in {roles[0]}"
                raise CorpusError(f"{problem}, {expected}. Prepare the splits one by one.")
        regions = {role: self.files[role] for role in roles}
        images = with_role(self.files, IMAGES)
        self.detector = add_images(self.writer, regions | images, mentions, complete=complete)

    def region_roles(self, split: str) -> list[str]:
        prefixes = (f"{split}_img_", f"{VQA_YEARS.get(split, split)}_img_")
        regions = with_role(self.files, REGIONS)
        with_boxes = [role for role in regions if WITHOUT_BOXES not in role] or [*regions]
        return [role for role in with_boxes if regions[role].name.startswith(prefixes)] or with_boxes


def find(folder: Path, *, official: OscarFiles) -> Files:
    """The splits that exist, the answer tables, regions and images."""
    paths = files_under([folder])
    files = find_splits(folder, paths, official)
    for role in ("ans2label", "label2ans") if official.tables else ():
        name = f"{official.tables}_{role}.pkl"
        path = first_match(paths, [name])
        if path is None:
            raise CorpusError(f"{folder}: found no {name}. Point source at the folder of Oscar's files.")
        files[role] = path
    return files | find_images(folder)


def find_splits(folder: Path, paths: Sequence[Path], official: OscarFiles) -> Files:
    """The splits that exist, at least one."""
    files = {split: path for split, names in official.splits.items() if (path := first_match(paths, names))}
    if not files:
        expected = " or ".join(names[0] for names in official.splits.values())
        raise CorpusError(f"{folder}: found no {expected}. Point source at the folder of Oscar's files.")
    return files


def first_match(paths: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The file of the first of the names or patterns that any path has; CorpusError if several files have it."""
    for name in names:
        matches = [path for path in paths if fnmatch(path.name, name)]
        if len(matches) > 1:
            raise CorpusError(f"{matches[1]}: {name} is also {matches[0]}, expected one. Take one of them away.")
        if matches:
            return matches[0]
    return None


def read_questions(files: Files, writer: CorpusWriter, *, task: str, official: OscarFiles) -> str:
    """VQA or GQA: write examples, vocabulary and images; returns the detector's name."""
    numbers, table = vocabulary(files["ans2label"], files["label2ans"])
    writer.add_answers(task, list(numbers))
    images = ImageAdder(writer, files)
    for split in [split for split in official.splits if split in files]:
        mentions: dict[str, str] = {}
        writer.add_examples(task, split, questions(files[split], task, split, table, mentions))
        images.add(split, mentions)
    return images.detector


def read_nlvr2(files: Files, writer: CorpusWriter) -> str:
    images = ImageAdder(writer, files)
    for split in [split for split in NLVR2_SPLITS if split in files]:
        mentions: dict[str, str] = {}
        writer.add_examples("nlvr2", split, statements(files[split], mentions))
        images.add(split, mentions)
    return images.detector


def vocabulary(ans2label: Path, label2ans: Path) -> tuple[dict[str, int], list[str]]:
    """answer -> number in the order of the labels, and the answers by number; the two files must agree."""
    numbers = load_pickle(ans2label)
    answers = load_pickle(label2ans)
    for path, value, kind in ((ans2label, numbers, dict), (label2ans, answers, list)):
        if not isinstance(value, kind) or not value:
            actual = type(value).__name__ if value else "nothing in it"
            raise CorpusError(f"{path}: {actual}, expected a pickled {kind.__name__}. Is this the official file?")
    return numbers, answer_table(answers, str(label2ans), numbers)


def questions(path: Path, task: str, split: str, table: Sequence[str], mentions: dict[str, str]) -> Iterator[Example]:
    """A split of VQA or GQA. A question without an id is named by its position in the file."""
    seen: set[str] = set()
    for number, (where, record) in enumerate(objects(load_json(path, list), path), 1):
        name = official_id(record, "q_id", where) if "q_id" in record else str(number)
        identifier = unique(name, seen, where, "q_id")
        text = text_field(record, "q", where)
        image = official_id(record, "img_id", where)
        tags = tags_of(record.get("o"), where)
        is_unlabeled = split in UNLABELED_SPLITS and not record.get("an")
        scores = {} if is_unlabeled else answers_of(record, where, task, table)
        if scores or is_unlabeled:
            mentions.setdefault(image, f"{path}: question {identifier}")
            yield Example(identifier, text, [image], [*scores], [*scores.values()], extra=json.dumps({"tags": [tags]}))


def answers_of(record: Record, where: str, task: str, table: Sequence[str]) -> dict[str, float]:
    """answer -> score; GQA has one answer without a score."""
    labels = record.get("an")
    scores = record.get("s") if task == "vqa" else [1.0]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < len(table) for label in labels):
        raise CorpusError(f"{where}: an is {ascii(labels)[:60]}, expected numbers below {len(table)}. Correct it.")
    if not isinstance(scores, list) or not len(scores) == len(labels) == len(set(labels)):
        problem = f"scores {ascii(scores)[:60]} of answers {labels}"
        raise CorpusError(f"{where}: {problem}, expected one of each, each once. Correct the record.")
    return soft_labels({table[label]: score for label, score in zip(labels, scores, strict=True)}, where)


def tags_of(value: Any, where: str) -> str:
    """Object tags as Oscar reads them: names separated by blanks, in the file by ; too. None: no tags."""
    return text_field({"o": "" if value is None else value}, "o", where, ANSWER).replace(";", " ").strip()


def statements(path: Path, mentions: dict[str, str]) -> Iterator[Example]:
    """A split of NLVR2, named by the position in the file. A group is a text over the pairs of a set."""
    for number, (where, record) in enumerate(objects(load_json(path, list), path), 1):
        images = as_object(record.get("img_id", {}), f"{where}: img_id")
        tags = as_object(record.get("o", {}), f"{where}: o")
        left = official_id(images, "left", f"{where}: img_id")
        right = official_id(images, "right", f"{where}: img_id")
        mentions |= dict.fromkeys([left, right], where)
        text = text_field(record, "q", where)
        label = binary_label(record, where)
        extra = json.dumps({"tags": [tags_of(tags.get("left"), where), tags_of(tags.get("right"), where)]})
        match = PAIR.fullmatch(left)
        group = f"{match[1]}: {text}" if match else ""
        yield Example(str(number), text, [left, right], label=label, group=group, extra=extra)


def question_format(task: str, tables: str, splits: dict[str, list[str]], id_space: IdSpace) -> Format:
    official = OscarFiles(splits, tables)
    read = partial(read_questions, task=task, official=official)
    return Format(partial(find, official=official), read, id_space=id_space)


def gqa_format(*sets: str, val_sets: tuple[str, ...] = ()) -> Format:
    """sets: all and bal by preference; val_sets: likewise for the split val."""
    sets_of = dict.fromkeys(GQA_SPLITS, sets) | {"val": val_sets or sets}
    splits = {split: [f"gqa_{name}_qla_{split}.json" for name in sets_of[split]] for split in GQA_SPLITS}
    return question_format("gqa", "trainval_testdev_all", splits, "visual_genome")


VQA_SPLITS = {split: [f"{year}_qla_mrcnn.json", f"{year}_qla.json"] for split, year in VQA_YEARS.items()}
VQA_SPLITS["test"].append("test2014_qla.json")
OSCAR_VQA = question_format("vqa", "trainval", VQA_SPLITS, "coco")
OSCAR_GQA = gqa_format("all", "bal", val_sets=("bal", "all"))
OSCAR_GQA_BAL = gqa_format("bal")
OSCAR_GQA_ALL = gqa_format("all")
NLVR2_FILES = OscarFiles({split: [f"nlvr2_{split}.json"] for split in NLVR2_SPLITS})
OSCAR_NLVR2 = Format(partial(find, official=NLVR2_FILES), read_nlvr2)
