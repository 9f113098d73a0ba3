"""Oscar's own annotations: a text, the tags of the objects in its picture, and answers by number.

oscar-vqa         {train,val,train+val}2014_qla_mrcnn.json {test2015,test-dev2015}_qla_mrcnn.json; without _mrcnn
                  too, then test2014_qla.json; trainval_ans2label.pkl trainval_label2ans.pkl
oscar-gqa         gqa_all_qla_{train,testdev,submission}.json gqa_bal_qla_val.json, as published, or the other of all
                  and bal where that is not there; trainval_testdev_all_ans2label.pkl trainval_testdev_all_label2ans.pkl
oscar-gqa-bal     the same of balanced questions alone; oscar-gqa-all: of all questions
oscar-nlvr2       nlvr2_{train,dev,test1,dev_test1}.json nlvr2_{balanced,unbalanced}_{dev,test1}.json
oscar-retrieval   {train,minival,test}_captions.pt, and where there are any: {split}_{vg,oid,gt}_labels.pt, the tags;
                  {split}_caption_indexs_top*.pt, captions to rank; {split}_img_keys*.tsv, the pictures of a split

Some of the splits will do, in any folders of the source. <split>_img_*_feats holds the regions of one split (of VQA
test2015 and test-dev2015), any other region file those of all. An answer's label is its place in ans2label, not its
number there: so checkpoints count. VQA's questions of train and val without an answer are left out, as Oscar does,
whose score does not count them. Tags are a picture's own, or in `extra` of an example, a text for each of its pictures.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from vlx.corpora.formats.files import (
    ANSWER,
    Format,
    Regions,
    answer_table,
    field,
    load_json,
    mapping,
    members,
    objects,
    soft_labels,
    unique,
    whole_or_text,
)
from vlx.corpora.formats.oscar_pt import BOXLESS, load_dict
from vlx.corpora.formats.pictures import short_name
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

VQA = {"train": "train2014", "val": "val2014", "test": "test2015", "testdev": "test-dev2015"}  # file names by split
VQA |= {"train+val": "train+val2014"}
GQA = {"train": ("all", "bal"), "val": ("bal", "all"), "testdev": ("all", "bal"), "submission": ("all", "bal")}
NLVR2 = ("train", "dev", "test1", "dev_test1", "balanced_dev", "unbalanced_dev", "balanced_test1", "unbalanced_test1")
FILES: dict[str, dict[str, list[str]]] = {  # by format and split: the first that is there is read
    "oscar-vqa": {split: [f"{part}_qla_mrcnn.json", f"{part}_qla.json"] for split, part in VQA.items()},
    "oscar-gqa": {split: [f"gqa_{kind}_qla_{split}.json" for kind in kinds] for split, kinds in GQA.items()},
    **{f"oscar-gqa-{kind}": {split: [f"gqa_{kind}_qla_{split}.json"] for split in GQA} for kind in ("bal", "all")},
    "oscar-nlvr2": {split: [f"nlvr2_{split}.json"] for split in NLVR2},
    "oscar-retrieval": {split: [f"{split}_captions.pt"] for split in ("train", "minival", "val", "test")},
}
FILES["oscar-vqa"]["test"].append("test2014_qla.json")
ANSWERS = {"vqa": "trainval", "gqa": "trainval_testdev_all"}  # what the names of the two files of answers begin with
UNLABELLED = ("test", "testdev", "submission")  # splits whose answers are not published
SHARED = ("testdev", "train+val")  # splits whose pictures are those of others
TAGS = ("vg", "oid", "gt")  # detectors, Oscar's choice first
PAIR = re.compile(r"(.+)-\d+-img\d", re.ASCII)  # picture of NLVR2: a set, and the number of a pair


def find(folder: Path, *, name: str) -> dict[str, Path]:
    """The splits there are, what belongs to them, regions and pictures."""
    there, task = members([folder]), name.split("-")[1]
    found = {split: path for split, names in FILES[name].items() if (path := first(there, names))}
    needed = [] if found else [[names[0] for names in FILES[name].values()]]
    if task in ANSWERS:
        tables = {role: f"{ANSWERS[task]}_{role}.pkl" for role in ("ans2label", "label2ans")}
        found |= {role: path for role, table in tables.items() if (path := first(there, [table]))}
        needed += [[table] for role, table in tables.items() if role not in found]
    if needed:
        raise CorpusError(f"{folder}: found no {' or '.join(needed[0])}. Point source at the folder of Oscar's files.")
    for split in [*found] if task == "retrieval" else ():
        beside = {"tags": [f"{split}_{kind}_labels.pt" for kind in TAGS], "ranked": [f"{split}_caption_indexs_top*.pt"]}
        found |= {f"{role} {split}": path for role, names in beside.items() if (path := first(there, names))}
        keys = [path for path in there if fnmatch(path.name, f"{split}_img_keys*.tsv")]
        found |= {f"keys {path.stem.replace('_img_keys', '')}": path for path in keys}
    return found | find_images(folder)


def first(there: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The file of the first of the names that is there."""
    for name in names:
        found = [path for path in there if fnmatch(path.name, name)]
        if len(found) > 1:
            raise CorpusError(f"{found[1]}: {name} is also {found[0]}, expected one. Take one of them away.")
        if found:
            return found[0]
    return None


def read(files: dict[str, Path], writer: CorpusWriter, *, name: str) -> str:
    """vqa, gqa, nlvr2: write examples, vocabulary and pictures; returns the detector's name."""
    task, homes, detector, table = name.split("-")[1], dict[str, tuple[str, ...]](), "none", list[str]()
    if task in ANSWERS:
        numbers, table = vocabulary(files["ans2label"], files["label2ans"])
        writer.add_answers(task, list(numbers))
    for split, path in [(split, files[split]) for split in FILES[name] if split in files]:
        wanted: dict[str, str] = {}
        rows = statements(path, wanted) if task == "nlvr2" else questions(path, task, split, table, wanted)
        writer.add_examples(task, split, rows)
        detector = add_split(writer, files, split, wanted, homes)
    return detector


def add_split(
    writer: CorpusWriter, files: Mapping[str, Path], split: str, wanted: dict[str, str],
    homes: dict[str, tuple[str, ...]], complete: Callable[[Regions], Regions] | None = None,
) -> str:  # fmt: skip
    """The pictures of a split, from its own region files or from those of all. homes: the region files that the
    pictures of the splits before are in."""
    names = tuple(f"{part}_img_" for part in (split, VQA.get(split, split)))
    regions = [role for role in files if role.startswith("regions ")]
    regions = [role for role in regions if BOXLESS not in role] or regions
    own = [role for role in regions if files[role].name.startswith(names)] or regions
    for image in () if split in SHARED else wanted:
        if homes.setdefault(image, tuple(own)) != tuple(own):
            found = f"{wanted[image]} names image {image}, of another split in {homes[image][0]}"
            raise CorpusError(f"{found}, expected pictures of its own in {own[0]}. Prepare the splits one by one.")
    pictures = {role: path for role, path in files.items() if role.startswith("pictures ")}
    return add_images(writer, {role: files[role] for role in own} | pictures, wanted, complete=complete)


def vocabulary(ans2label: Path, label2ans: Path) -> tuple[dict[str, int], list[str]]:
    """Number of each answer, in the order of the labels, and the answer of each number: they must say the same."""
    numbers, answers = load_pickle(ans2label), load_pickle(label2ans)
    for path, value, kind in ((ans2label, numbers, dict), (label2ans, answers, list)):
        if not isinstance(value, kind) or not value:
            found = type(value).__name__ if value else "nothing in it"
            raise CorpusError(f"{path}: {found}, expected a pickled {kind.__name__}. Is this the official file?")
    return numbers, answer_table(answers, str(label2ans), numbers)


def questions(path: Path, task: str, split: str, table: Sequence[str], wanted: dict[str, str]) -> Iterator[Example]:
    """A split of VQA or GQA. A question without an id is named by its place in the file."""
    seen: set[str] = set()
    for number, (where, record) in enumerate(objects(load_json(path, list), path), 1):
        name = whole_or_text(record, "q_id", where) if "q_id" in record else str(number)
        identifier, text = unique(name, seen, where, "q_id"), field(record, "q", where)[0]
        image, tags = whole_or_text(record, "img_id", where), tags_of(record.get("o"), where)
        hidden = split in UNLABELLED and not record.get("an")
        scores = {} if hidden else answers_of(record, where, task, table)
        if scores or hidden:
            wanted.setdefault(image, f"{path}: question {identifier}")
            yield Example(identifier, text, [image], [*scores], [*scores.values()], extra=json.dumps({"tags": [tags]}))


def answers_of(record: dict[str, Any], where: str, task: str, table: Sequence[str]) -> dict[str, float]:
    """The score of every right answer; GQA has one, and does not score it."""
    labels = record.get("an")
    scores = record.get("s") if task == "vqa" else [1.0]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < len(table) for label in labels):
        raise CorpusError(f"{where}: an is {ascii(labels)[:60]}, expected numbers below {len(table)}. Correct it.")
    if not isinstance(scores, list) or not len(scores) == len(labels) == len(set(labels)):
        found = f"scores {ascii(scores)[:60]} of answers {labels}"
        raise CorpusError(f"{where}: {found}, expected one of each, each once. Correct the record.")
    return soft_labels({table[label]: score for label, score in zip(labels, scores, strict=True)}, where)


def tags_of(value: Any, where: str) -> str:
    """As Oscar reads them: names parted by blanks, in the file by ; too. None: no tags."""
    return field({"o": "" if value is None else value}, "o", where, ANSWER)[0].replace(";", " ").strip()


def statements(path: Path, wanted: dict[str, str]) -> Iterator[Example]:
    """A split of NLVR2, named by the place in the file. A group is a text over the pairs of a set."""
    for number, (where, record) in enumerate(objects(load_json(path, list), path), 1):
        images, tags = (mapping(record.get(key, {}), f"{where}: {key}") for key in ("img_id", "o"))
        names = [whole_or_text(images, side, f"{where}: img_id") for side in ("left", "right")]
        wanted |= dict.fromkeys(names, where)
        text, label, match = field(record, "q", where)[0], record.get("label"), PAIR.fullmatch(names[0])
        if type(label) is not int or label not in (0, 1):
            raise CorpusError(f"{where}: label is {ascii(label)[:60]}, expected 0 or 1. Correct the record.")
        extra = json.dumps({"tags": [tags_of(tags.get(side), where) for side in ("left", "right")]})
        group = f"{match[1]}: {text}" if match else ""
        yield Example(str(number), text, names, label=label, group=group, extra=extra)


def read_retrieval(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write captions, named <picture>-<place among its captions>, and pictures with their tags."""
    homes, detector = dict[str, tuple[str, ...]](), "none"
    for split in [split for split in FILES["oscar-retrieval"] if split in files]:
        captions = captions_of(files[split])
        ranked = ranked_for(files[f"ranked {split}"], captions) if f"ranked {split}" in files else {}
        keys = {role.removeprefix("keys "): path for role, path in files.items() if role.startswith(f"keys {split}")}
        orders = {split: [*captions]} | {order: keys_of(path, captions) for order, path in keys.items()}
        for order, images in orders.items():
            rows = ((image, place, text) for image in images for place, text in enumerate(captions[image]))
            made = (Example(f"{im}-{at}", text, [im], group=im, extra=ranked.get(im, "")) for im, at, text in rows)
            writer.add_examples("retrieval", order, made)
        wanted = {image: str(files[split]) for images in orders.values() for image in images}
        complete = partial(tagged, tags_by_image(path), path) if (path := files.get(f"tags {split}")) else None
        detector = add_split(writer, files, split, wanted, homes, complete)
    return detector


def saved(path: Path, shape: str) -> Iterator[tuple[str, Any, str]]:
    """(image, what is saved of it, where)"""
    seen: set[str] = set()
    for key, value in load_dict(path, shape).items():
        where = f"{path}: picture {ascii(str(key))[1:-1][:60]}"
        yield unique(str(key), seen, where, "picture"), value, where


def lists(path: Path, shape: str) -> Iterator[tuple[str, list[Any], str]]:
    """The same of lists, which may be saved as JSON."""
    for image, value, where in saved(path, shape):
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error}). Get the file again.") from None
        if not isinstance(value, list) or not value:
            raise CorpusError(f"{where}: found {ascii(value)[:60]}, expected a list, {shape}. Get the file again.")
        yield image, value, where


def captions_of(path: Path) -> dict[str, list[str]]:
    found = lists(path, "picture -> captions")
    return {image: [field({"caption": one}, "caption", where)[0] for one in said] for image, said, where in found}


def ranked_for(path: Path, captions: Mapping[str, list[str]]) -> dict[str, str]:
    """The captions that a picture's own are to be found among, named as the examples, as `extra` of these."""
    found: dict[str, str] = {}
    for image, pairs, where in lists(path, "picture -> [[picture, place of the caption], ...]"):
        for pair in pairs:
            right = isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[1]) is int
            if not right or not 0 <= pair[1] < len(captions.get(str(pair[0]), ())):
                raise CorpusError(f"{where}: {ascii(pair)[:60]} is no caption of these pictures. Get both files again.")
        found[image] = json.dumps({"candidates": [f"{other}-{place}" for other, place in pairs]})
    if absent := captions.keys() - found.keys():
        raise CorpusError(f"{path}: nothing of picture {min(absent)}, expected it of each. Get the file again.")
    return found


def keys_of(path: Path, captions: Mapping[str, list[str]]) -> list[str]:
    """Pictures, one a line."""
    names, seen = path.read_bytes().decode(errors="replace").split(), set[str]()
    for number, name in enumerate(names, 1):
        if unique(name, seen, f"{path}:{number}", "picture") not in captions:
            raise CorpusError(f"{path}:{number}: picture {ascii(name)[:60]} has no captions. Get both files again.")
    if not names:
        raise CorpusError(f"{path}: found nothing in it, expected a picture a line. Is the download complete?")
    return names


def tags_by_image(path: Path) -> dict[str, list[str]]:
    """Of a text, or of objects that name their class."""
    found: dict[str, list[str]] = {}
    for image, value, where in saved(path, "picture -> tags"):
        if isinstance(value, list):
            found[image] = [field(one, "class", at)[0] for at, one in objects(value, where, "object")]
        else:
            found[image] = tags_of(value, where).split()
    return found


def tagged(tags: Mapping[str, list[str]], path: Path, row: Regions) -> Regions:
    name = short_name(row.image_id)
    if name not in tags:
        raise CorpusError(f"{row.where}: no tags of it in {path}, expected some. Get both files again.")
    return row._replace(tags=tuple(tags[name]))


FORMATS = {name: Format(partial(find, name=name), partial(read, name=name)) for name in FILES}
FORMATS["oscar-retrieval"] = Format(partial(find, name="oscar-retrieval"), read_retrieval)
