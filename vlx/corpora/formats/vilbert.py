"""ViLBERT 12-in-1's tasks and pre-training, each from the folder that the original's task file calls `dataroot`.

vilbert-vqa                v2_OpenEnded_mscoco_<train2014|val2014|test2015>_questions.json, cache/<train|val>_target.pkl
vilbert-gqa                cache/trainval_target.pkl, testdev_balanced_questions.json
vilbert-visual-genome-qa   cache/trainval_target.pkl
                           these three with cache/trainval_label2ans.pkl and, if there, trainval_ans2label.pkl
vilbert-retrieval          all_data_final_<train|val_set0|test_set0>_2014.jsonline; hard_negative[_cleaned].pkl if there
vilbert-refcoco, -refcoco+, -refcocog   as refcoco.py; of region files named <data set>_* its own
vilbert-nlvr2, -snli-ve    <train|dev|test>.json, snli_ve_<train|dev|test>.jsonl
vilbert-captions           training_feat_*.lmdb, validation_feat_*.lmdb of tensorpack; or caption_<train|val>.json,
                           which hold image id -> caption, and regions of any kind
and, in vilbert_boxes.py, visual7w, guesswhat, guesswhat-pointing, vcr-q2a and vcr-qa2r.

Some of the splits will do. cache/<coco|genome|flickr>_test_ids.npy names the images of other tasks' test sets: training
examples about them are the split mteval. Train without it on the paper's clean splits, with it on the full ones.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlx.corpora.formats import gqa, nlvr2, npz, refcoco, snli_ve, vilbert_lmdb
from vlx.corpora.formats.files import (
    Format,
    answer_table,
    field,
    json_lines,
    listed,
    load_json,
    require,
    soft_labels,
    some_of,
    unique,
    whole_or_text,
)
from vlx.corpora.formats.pictures import short_name
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

Files = dict[str, Path]
Places = Mapping[str, str]  # role -> file
Rows = Iterable[Example]
SPLITS = ("train", "trainval", "val", "valid", "minival", "dev", "testdev", "test", "mteval")
TRAINING = ("train", "trainval")
MINIVAL, GENOME_VAL = 3_000, 5_000  # the last questions by id
NOTHING: Places = {}
YEARS = {"train": "train2014", "val": "val2014", "test": "test2015"}
QUESTIONS = {split: f"v2_OpenEnded_mscoco_{name}_questions.json" for split, name in YEARS.items()}
TARGETS = {f"{split} targets": f"cache/{split}_target.pkl" for split in ("train", "val")}
TRAINVAL, TESTDEV = {"trainval": "cache/trainval_target.pkl"}, {"testdev": "testdev_balanced_questions.json"}
TABLE, INVERSE = {"table": "cache/trainval_label2ans.pkl"}, {"inverse": "cache/trainval_ans2label.pkl"}
FOLDS = {"train": "train", "val": "val_set0", "test": "test_set0"}
CAPTIONS = {split: f"all_data_final_{fold}_2014.jsonline" for split, fold in FOLDS.items()}
HARD = {"near": "hard_negative.pkl", "clean near": "hard_negative_cleaned.pkl"}
COCO, GENOME, FLICKR = ({f"removed {name}": f"cache/{name}_test_ids.npy"} for name in ("coco", "genome", "flickr"))
V7W = "v7w_"  # before Visual Genome's ids, where Visual7W names pictures and regions


def find(folder: Path, parts: Places, *, needed: Places = NOTHING, perhaps: Places = NOTHING) -> Files:
    """Some of `parts`, all that is needed, perhaps others; regions and pictures."""
    found = some_of(folder, parts) | {role: require(folder, name) for role, name in needed.items()}
    found |= {role: path for role, name in perhaps.items() if (path := folder / name).is_file()}
    return found | find_images(folder)


def add(task: str, splits: Mapping[str, Rows], files: Files, writer: CorpusWriter) -> str:
    """Write the splits and the images they name; returns the detector's name."""
    return add_regions(add_splits(task, splits, files, writer), files, writer)


def add_regions(wanted: dict[str, str], files: Files, writer: CorpusWriter) -> str:
    complete = partial(vilbert_lmdb.append, files["annotated"]) if "annotated" in files else None
    return add_images(writer, files, wanted, complete=complete)


def add_splits(task: str, splits: Mapping[str, Rows], files: Files, writer: CorpusWriter) -> dict[str, str]:
    """Write the splits, mteval apart; returns the images they name and who does."""
    removed, wanted, parts = removed_images(files), dict[str, str](), defaultdict[str, list[Example]](list)
    for split, rows in splits.items():
        for row in rows:
            apart = split in TRAINING and row.image_ids[0].removeprefix(V7W) in removed
            parts["mteval" if apart else split].append(row)
            for name in row.image_ids:
                wanted.setdefault(name, f"{split} {row.identifier}")
    for split in sorted(parts, key=SPLITS.index):
        writer.add_examples(task, split, parts[split])
    return wanted


def removed_images(files: Files) -> set[str]:
    found = set[str]()
    for path in [path for role, path in files.items() if role.startswith("removed ")]:
        ids = npz.load(path)
        if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iuU":
            raise CorpusError(f"{path}: expected an array of image ids. Get it again.")
        found |= set(map(str, ids.tolist()))
    return found


def read_each(task: str, rows: Callable[[Path], Rows], files: Files, writer: CorpusWriter) -> str:
    """A task whose splits are files of one kind."""
    return add(task, {split: rows(files[split]) for split in SPLITS if split in files}, files, writer)


def add_table(task: str, files: Files, writer: CorpusWriter) -> list[str]:
    """Write the answers of the labels, and return them."""
    table, inverse = load_pickle(files["table"]), load_pickle(files["inverse"]) if "inverse" in files else None
    if not isinstance(table, list) or not isinstance(inverse, dict | None):
        raise CorpusError(f"{files['table']}: expected a list, and a dict as its inverse. Get both again.")
    writer.add_answers(task, answer_table(table, str(files["table"]), inverse))
    return table


def targets(path: Path, table: list[str], asked: Mapping[str, Any] | None = None) -> list[Example]:
    """Questions of a *_target.pkl in the order of their ids. asked: by id, if the items do not hold them."""
    rows, seen = list[tuple[Any, Example]](), set[str]()
    for where, item in listed(load_pickle(path), "items", path):
        name = unique(whole_or_text(item, "question_id", where), seen, where, "question_id")
        labels, scores = item.get("labels"), item.get("scores")
        if not isinstance(labels, list) or not isinstance(scores, list) or len(labels) != len(scores):
            raise CorpusError(f"{where}: labels and scores are not lists of one length. Get it again.")
        if not all(type(label) is int and 0 <= label < len(table) for label in labels):
            raise CorpusError(
                f"{where}: labels {ascii(labels)[:60]}, expected some of 0..{len(table) - 1}. Get it again."
            )
        right = soft_labels({table[label]: score for label, score in zip(labels, scores, strict=True)}, where)
        question, image = item if asked is None else asked.get(name, {}), whole_or_text(item, "image_id", where)
        if str(question.get("image_id")) != image:
            raise CorpusError(f"{where}: no question {name} about image {image}. Take both files from one download.")
        row = Example(name, field(question, "question", where)[0], [image], [*right], [*right.values()])
        rows.append((item["question_id"], row))
    absent = (asked or {}).keys() - seen
    if absent or len({type(number) for number, _ in rows}) > 1:
        what = f"no targets of question {min(absent)}" if absent else "some question ids are numbers and some text"
        raise CorpusError(f"{path}: {what}. Get it again.")
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def questions(path: Path) -> dict[str, dict[str, Any]]:
    """By id."""
    found = listed(load_json(path, dict), "questions", path)
    return {whole_or_text(one, "question_id", where): one for where, one in found}


def read_vqa(files: Files, writer: CorpusWriter) -> str:
    table, train, val, test = add_table("vqa", files, writer), *(list[Example]() for _ in YEARS)
    for rows, split in ((train, "train"), (val, "val")):
        if split in files:
            rows += targets(require(files[split].parent, f"cache/{split}_target.pkl"), table, questions(files[split]))
    for name, one in questions(files["test"]).items() if "test" in files else ():
        where = f"{files['test']}: question {name}"
        test.append(Example(name, field(one, "question", where)[0], [whole_or_text(one, "image_id", where)]))
    return add("vqa", {"trainval": train + val[:-MINIVAL], "minival": val[-MINIVAL:], "test": test}, files, writer)


def read_gqa(files: Files, writer: CorpusWriter) -> str:
    table = add_table("gqa", files, writer)
    rows = targets(files["trainval"], table) if "trainval" in files else []
    last = gqa.questions(files["testdev"], "testdev", None, {}, {}) if "testdev" in files else ()
    return add("gqa", {"trainval": rows[:-MINIVAL], "minival": rows[-MINIVAL:], "testdev": last}, files, writer)


def read_genome(files: Files, writer: CorpusWriter) -> str:
    rows = targets(files["trainval"], add_table("genome_qa", files, writer))
    return add("genome_qa", {"train": rows[:-GENOME_VAL], "val": rows[-GENOME_VAL:]}, files, writer)


def read_retrieval(files: Files, writer: CorpusWriter) -> str:
    clean = any(role.startswith("removed ") for role in files)
    pool = files.get("clean near" if clean else "near")
    near = hard_images(pool) if pool else {}
    splits = {split: captions(files[split], near if split == "train" else {}) for split in SPLITS if split in files}
    return add("retrieval", splits, files, writer)


def hard_images(path: Path) -> dict[str, list[str]]:
    """For every training image those that look most alike; their captions are its hard negatives."""
    content = load_pickle(path)
    names, pool = map((content if isinstance(content, dict) else {}).get, ("train_image_list", "train_hard_pool"))
    if not isinstance(names, list) or not isinstance(pool, np.ndarray) or pool.ndim != 2 or len(pool) != len(names):
        raise CorpusError(f"{path}: expected train_image_list and, for each, a row of train_hard_pool. Get it again.")
    if pool.dtype.kind not in "iuf" or not ((pool >= 0) & (pool < len(names))).all():
        raise CorpusError(f"{path}: train_hard_pool names rows beyond its {len(names):,} images. Get it again.")
    own = list(map(str, names))
    return {name: [own[int(row)] for row in rows[1:]] for name, rows in zip(own, pool, strict=True)}  # first: itself


def captions(path: Path, near: Mapping[str, list[str]]) -> Iterator[Example]:
    seen: set[str] = set()
    for where, record in json_lines(path):
        named = field(record, "img_path", where)[0] if "img_path" in record else whole_or_text(record, "id", where)
        image, said = unique(short_name(Path(named).stem), seen, where, "image"), record.get("sentences")
        if not isinstance(said, list) or not said:
            raise CorpusError(
                f"{where}: sentences is {ascii(said)[:60]}, expected a list of captions. Correct the line."
            )
        extra = json.dumps({"near": near[image]}) if image in near else ""
        for number, text in enumerate(said):
            text = field({"sentence": text}, "sentence", where)[0]
            yield Example(f"{image}#{number}", text, [image], group=image, extra=extra)


def find_captions(folder: Path) -> Files:
    places = {"train": "training_feat_*.lmdb", "val": "validation_feat_*.lmdb"}
    found = {f"{split} {path.name}": path for split, name in places.items() for path in sorted(folder.glob(name))}
    return found or find(folder, {"train": "caption_train.json", "val": "caption_val.json"})


def read_captions(files: Files, writer: CorpusWriter) -> str:
    if files.keys() & {"train", "val"}:
        return read_each("captions", listed_captions, files, writer)
    for split in ("train", "val"):
        if paths := [path for role, path in files.items() if role.startswith(f"{split} ")]:
            writer.add_examples("captions", split, datapoints(paths, writer))
    return "external"


def listed_captions(path: Path) -> Iterator[Example]:
    content = load_json(path, dict)
    return (Example(name, field(content, name, str(path))[0], [name], group=name) for name in content)


def datapoints(paths: list[Path], writer: CorpusWriter) -> Iterator[Example]:
    """Captions, each with its regions, which are written on the way."""
    for item, where in (found for path in paths for found in vilbert_lmdb.items(path)):
        text, row = field(item, "caption", where)[0], vilbert_lmdb.regions_of(item, where)
        writer.add_image(row.image_id, row.features, row.boxes, size=row.size, fields=row.fields, where=where)
        yield Example(row.image_id, text, [row.image_id], group=row.image_id)


def find_refcoco(folder: Path, name: str) -> Files:
    found = refcoco.find(folder, name)
    regions = {role: path for role, path in found.items() if role.startswith("regions ")}
    own = {role for role, path in regions.items() if path.name.startswith(f"{name}_")} or regions.keys()
    removed = {role: folder / path for role, path in COCO.items() if (folder / path).is_file()}
    return {role: path for role, path in found.items() if role not in regions.keys() - own} | removed


def read_refcoco(files: Files, writer: CorpusWriter, *, name: str) -> str:
    return refcoco.read(files, writer, name=name, removed=removed_images(files))


def named(pattern: str) -> dict[str, str]:
    return {split: pattern.format(split) for split in ("train", "dev", "test")}


def hypotheses(path: Path) -> Rows:
    return snli_ve.hypotheses(path, {})


FORMATS = {
    "vilbert-vqa": Format(partial(find, parts=QUESTIONS, needed=TABLE, perhaps=TARGETS | INVERSE | COCO), read_vqa),
    "vilbert-gqa": Format(partial(find, parts=TRAINVAL | TESTDEV, needed=TABLE, perhaps=INVERSE | GENOME), read_gqa),
    "vilbert-visual-genome-qa": Format(
        partial(find, parts=TRAINVAL, needed=TABLE, perhaps=INVERSE | GENOME), read_genome
    ),
    "vilbert-retrieval": Format(partial(find, parts=CAPTIONS, perhaps=HARD | COCO | FLICKR), read_retrieval),
    "vilbert-nlvr2": Format(partial(find, parts=named("{}.json")), partial(read_each, "nlvr2", nlvr2.statements)),
    "vilbert-snli-ve": Format(
        partial(find, parts=named("snli_ve_{}.jsonl"), perhaps=FLICKR), partial(read_each, "snli_ve", hypotheses)
    ),
    "vilbert-captions": Format(find_captions, read_captions),
}
for name in refcoco.BY:
    FORMATS[f"vilbert-{name}"] = Format(partial(find_refcoco, name=name), partial(read_refcoco, name=name))
