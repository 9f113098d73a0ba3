"""ViLBERT 12-in-1's tasks and pre-training, each from the folder that vilbert_tasks.yml calls `dataroot`.

vilbert-vqa                v2_OpenEnded_mscoco_<train2014|val2014|test2015>_questions.json, cache/<train|val>_target.pkl
vilbert-gqa                cache/trainval_target.pkl, testdev_balanced_questions.json
vilbert-visual-genome-qa   cache/trainval_target.pkl
                           these three with cache/trainval_label2ans.pkl, optionally trainval_ans2label.pkl
vilbert-retrieval          all_data_final_<train|val_set0|test_set0>_2014.jsonline; optionally
                           hard_negative[_cleaned].pkl
vilbert-refcoco, -refcoco+, -refcocog   as in refcoco.py; of region files named <data set>_* its own
vilbert-nlvr2, -snli-ve    <train|dev|test>.json, snli_ve_<train|dev|test>.jsonl
vilbert-captions           training_feat_*.lmdb, validation_feat_*.lmdb of tensorpack; or caption_<train|val>.json,
                           which hold image id -> caption, and regions of any kind
and, in vilbert_boxes.py, visual7w, guesswhat, guesswhat-pointing, vcr-q2a and vcr-qa2r.

At least one split is needed. cache/<coco|genome|flickr>_test_ids.npy names the images of other tasks' test sets:
training examples with these images are the split mteval. Train without it on the paper's clean splits (Lu et al. 2020,
section 4.1), with it on the full ones.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from vlx.corpora.formats.annotations import gqa, nlvr2, refcoco, snli_ve
from vlx.corpora.formats.features import npz, vilbert_lmdb
from vlx.corpora.formats.folders import existing_files, first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.images import coco_number
from vlx.corpora.formats.labels import answer_table, soft_labels
from vlx.corpora.formats.records import Record, json_lines, load_json, object_list, official_id, text_field, unique
from vlx.corpora.formats.sources import REGIONS, add_images, find_images, with_role
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

Names = Mapping[str, str]  # role -> file name
SPLITS = ("train", "trainval", "val", "valid", "minival", "dev", "testdev", "test", "mteval")
TRAINING_SPLITS = ("train", "trainval")
MINIVAL_SIZE = 3_000  # the last questions by id
GENOME_VAL = 5_000  # the last questions by id
NO_FILES: Names = {}
QUESTIONS = {
    "train": "v2_OpenEnded_mscoco_train2014_questions.json",
    "val": "v2_OpenEnded_mscoco_val2014_questions.json",
    "test": "v2_OpenEnded_mscoco_test2015_questions.json",
}
TARGETS = {"train targets": "cache/train_target.pkl", "val targets": "cache/val_target.pkl"}
TRAINVAL = {"trainval": "cache/trainval_target.pkl"}
TESTDEV = {"testdev": "testdev_balanced_questions.json"}
TABLE = {"table": "cache/trainval_label2ans.pkl"}
INVERSE = {"inverse": "cache/trainval_ans2label.pkl"}
CAPTIONS = {
    "train": "all_data_final_train_2014.jsonline",
    "val": "all_data_final_val_set0_2014.jsonline",
    "test": "all_data_final_test_set0_2014.jsonline",
}
HARD_NEGATIVES = {"hard negatives": "hard_negative.pkl", "clean hard negatives": "hard_negative_cleaned.pkl"}
COCO = {"removed coco": "cache/coco_test_ids.npy"}
GENOME = {"removed genome": "cache/genome_test_ids.npy"}
FLICKR = {"removed flickr": "cache/flickr_test_ids.npy"}
REMOVED = "removed "
VISUAL7W_PREFIX = "v7w_"  # before Visual Genome's ids, in Visual7W's names of images and regions


def find(folder: Path, splits: Names, *, required: Names = NO_FILES, optional: Names = NO_FILES) -> Files:
    """At least one of the splits, all required files, the optional ones that exist; regions and images."""
    files = existing_files(folder, splits)
    files |= {role: first_existing(folder, name) for role, name in required.items()}
    files |= existing_optional(folder, optional)
    return files | find_images(folder)


def existing_optional(folder: Path, names: Names) -> Files:
    return {role: path for role, name in names.items() if (path := folder / name).is_file()}


def add(task: str, splits: Mapping[str, Iterable[Example]], files: Files, writer: CorpusWriter) -> str:
    """Write the splits and the images they mention; returns the detector's name."""
    return add_regions(add_splits(task, splits, files, writer), files, writer)


def add_regions(mentions: dict[str, str], files: Files, writer: CorpusWriter) -> str:
    """The mentioned images, with the regions of their annotated boxes if there is a file of these."""
    complete = partial(vilbert_lmdb.append, files["annotated"]) if "annotated" in files else None
    return add_images(writer, files, mentions, complete=complete)


def add_splits(
    task: str, splits: Mapping[str, Iterable[Example]], files: Files, writer: CorpusWriter
) -> dict[str, str]:
    """Write the splits, mteval apart; returns image id -> the record that mentions it."""
    removed = removed_images(files)
    mentions: dict[str, str] = {}
    final_splits = defaultdict[str, list[Example]](list)
    for split, rows in splits.items():
        for row in rows:
            is_removed = split in TRAINING_SPLITS and row.image_ids[0].removeprefix(VISUAL7W_PREFIX) in removed
            final_splits["mteval" if is_removed else split].append(row)
            for name in row.image_ids:
                mentions.setdefault(name, f"{split} {row.identifier}")
    for split in sorted(final_splits, key=SPLITS.index):
        writer.add_examples(task, split, final_splits[split])
    return mentions


def removed_images(files: Files) -> set[str]:
    """Images of other tasks' test sets."""
    image_ids: set[str] = set()
    for path in with_role(files, REMOVED).values():
        ids = npz.load(path)
        if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iuU":
            raise CorpusError(f"{path}: expected an array of image ids. Get it again.")
        image_ids |= set(map(str, ids.tolist()))
    return image_ids


def read_each(task: str, rows: Callable[[Path], Iterable[Example]], files: Files, writer: CorpusWriter) -> str:
    """A task whose splits are files of one kind, which `rows` reads."""
    return add(task, {split: rows(files[split]) for split in SPLITS if split in files}, files, writer)


def add_table(task: str, files: Files, writer: CorpusWriter) -> list[str]:
    """Write the answers by label, and return them."""
    table = load_pickle(files["table"])
    inverse = load_pickle(files["inverse"]) if "inverse" in files else None
    if not isinstance(table, list) or not isinstance(inverse, dict | None):
        raise CorpusError(f"{files['table']}: expected a list, and a dict as its inverse. Get both again.")
    writer.add_answers(task, answer_table(table, str(files["table"]), inverse))
    return table


def targets(path: Path, table: list[str], questions: Mapping[str, Record] | None = None) -> list[Example]:
    """Questions of a *_target.pkl in the order of their ids. questions: by id, if the items do not hold them."""
    rows = []
    seen: set[str] = set()
    for where, item in object_list(load_pickle(path), "items", path):
        name = unique(official_id(item, "question_id", where), seen, where, "question_id")
        image = official_id(item, "image_id", where)
        scores = target_scores(item, table, where)
        question = item if questions is None else questions.get(name, {})
        if str(question.get("image_id")) != image:
            raise CorpusError(f"{where}: no question {name} about image {image}. Take both files from one download.")
        row = Example(name, text_field(question, "question", where), [image], [*scores], [*scores.values()])
        rows.append((item["question_id"], row))
    absent = (questions or {}).keys() - seen
    if absent:
        raise CorpusError(f"{path}: no targets of question {min(absent)}. Get it again.")
    if len({type(number) for number, _ in rows}) > 1:
        raise CorpusError(f"{path}: some question ids are numbers and some text. Get it again.")
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def target_scores(item: Record, table: list[str], where: str) -> dict[str, float]:
    """answer -> score of an item with labels and their scores."""
    labels = item.get("labels")
    scores = item.get("scores")
    if not isinstance(labels, list) or not isinstance(scores, list) or len(labels) != len(scores):
        raise CorpusError(f"{where}: labels and scores are not lists of one length. Get it again.")
    if not all(type(label) is int and 0 <= label < len(table) for label in labels):
        expected = f"expected some of 0..{len(table) - 1}"
        raise CorpusError(f"{where}: labels {ascii(labels)[:60]}, {expected}. Get it again.")
    return soft_labels({table[label]: score for label, score in zip(labels, scores, strict=True)}, where)


def questions_by_id(path: Path) -> dict[str, Record]:
    records = object_list(load_json(path, dict), "questions", path)
    return {official_id(record, "question_id", where): record for where, record in records}


def read_vqa(files: Files, writer: CorpusWriter) -> str:
    table = add_table("vqa", files, writer)
    labeled: dict[str, list[Example]] = {"train": [], "val": []}
    for split in [split for split in labeled if split in files]:
        path = first_existing(files[split].parent, f"cache/{split}_target.pkl")
        labeled[split] = targets(path, table, questions_by_id(files[split]))
    test = []
    for name, record in questions_by_id(files["test"]).items() if "test" in files else ():
        where = f"{files['test']}: question {name}"
        test.append(Example(name, text_field(record, "question", where), [official_id(record, "image_id", where)]))
    trainval = labeled["train"] + labeled["val"][:-MINIVAL_SIZE]
    splits = {"trainval": trainval, "minival": labeled["val"][-MINIVAL_SIZE:], "test": test}
    return add("vqa", splits, files, writer)


def read_gqa(files: Files, writer: CorpusWriter) -> str:
    table = add_table("gqa", files, writer)
    rows = targets(files["trainval"], table) if "trainval" in files else []
    testdev = gqa.questions(files["testdev"], "testdev", None, {}, {}) if "testdev" in files else ()
    splits = {"trainval": rows[:-MINIVAL_SIZE], "minival": rows[-MINIVAL_SIZE:], "testdev": testdev}
    return add("gqa", splits, files, writer)


def read_genome(files: Files, writer: CorpusWriter) -> str:
    rows = targets(files["trainval"], add_table("genome_qa", files, writer))
    return add("genome_qa", {"train": rows[:-GENOME_VAL], "val": rows[-GENOME_VAL:]}, files, writer)


def read_retrieval(files: Files, writer: CorpusWriter) -> str:
    path = files.get("clean hard negatives" if with_role(files, REMOVED) else "hard negatives")
    hard_negatives = similar_images(path) if path else {}
    splits = {
        split: captions(files[split], hard_negatives if split == "train" else {}) for split in SPLITS if split in files
    }
    return add("retrieval", splits, files, writer)


def similar_images(path: Path) -> dict[str, list[str]]:
    """Training image -> the most similar ones, whose captions are its hard negatives."""
    content = load_pickle(path)
    record = content if isinstance(content, dict) else {}
    names = record.get("train_image_list")
    pool = record.get("train_hard_pool")
    if not isinstance(names, list) or not isinstance(pool, np.ndarray) or pool.ndim != 2 or len(pool) != len(names):
        raise CorpusError(f"{path}: expected train_image_list and, for each, a row of train_hard_pool. Get it again.")
    if pool.dtype.kind not in "iuf" or not ((pool >= 0) & (pool < len(names))).all():
        raise CorpusError(f"{path}: train_hard_pool names rows beyond its {len(names):,} images. Get it again.")
    image_ids = list(map(str, names))
    return {  # the first image of a row is the image itself
        image: [image_ids[int(index)] for index in row[1:]] for image, row in zip(image_ids, pool, strict=True)
    }


def captions(path: Path, hard_negatives: Mapping[str, list[str]]) -> Iterator[Example]:
    seen: set[str] = set()
    for where, record in json_lines(path):
        file_name = text_field(record, "img_path", where) if "img_path" in record else official_id(record, "id", where)
        image = unique(coco_number(Path(file_name).stem), seen, where, "image")
        texts = record.get("sentences")
        if not isinstance(texts, list) or not texts:
            expected = "expected a list of captions"
            raise CorpusError(f"{where}: sentences is {ascii(texts)[:60]}, {expected}. Correct the line.")
        extra = json.dumps({"hard_negatives": hard_negatives[image]}) if image in hard_negatives else ""
        for number, text in enumerate(texts):
            text = text_field({"sentence": text}, "sentence", where)
            yield Example(f"{image}#{number}", text, [image], group=image, extra=extra)


def find_captions(folder: Path) -> Files:
    patterns = {"train": "training_feat_*.lmdb", "val": "validation_feat_*.lmdb"}
    files = {f"{split} {path.name}": path for split, name in patterns.items() for path in sorted(folder.glob(name))}
    return files or find(folder, {"train": "caption_train.json", "val": "caption_val.json"})


def read_captions(files: Files, writer: CorpusWriter) -> str:
    if files.keys() & {"train", "val"}:
        return read_each("captions", captions_by_image, files, writer)
    for split in ("train", "val"):
        if paths := [*with_role(files, f"{split} ").values()]:
            writer.add_examples("captions", split, datapoints(paths, writer))
    return "external"


def captions_by_image(path: Path) -> Iterator[Example]:
    content = load_json(path, dict)
    return (Example(name, text_field(content, name, str(path)), [name], group=name) for name in content)


def datapoints(paths: list[Path], writer: CorpusWriter) -> Iterator[Example]:
    """Captions; the regions of each are written before it is yielded."""
    for path in paths:
        for item, where in vilbert_lmdb.items(path):
            text = text_field(item, "caption", where)
            row = vilbert_lmdb.regions_of(item, where)
            writer.add_image(row.image_id, row.features, row.boxes, size=row.image_size, fields=row.fields, where=where)
            yield Example(row.image_id, text, [row.image_id], group=row.image_id)


def find_refcoco(folder: Path, name: str) -> Files:
    """As refcoco.find; region files named <name>_* replace all others."""
    files = refcoco.find(folder, name)
    regions = with_role(files, REGIONS)
    of_data_set = {role for role, path in regions.items() if path.name.startswith(f"{name}_")} or regions.keys()
    files = {role: path for role, path in files.items() if role not in regions or role in of_data_set}
    return files | existing_optional(folder, COCO)


def read_refcoco(files: Files, writer: CorpusWriter, *, name: str) -> str:
    return refcoco.read(files, writer, name=name, removed=removed_images(files))


def hypotheses(path: Path) -> Iterator[Example]:
    return snli_ve.hypotheses(path, {})


def refcoco_format(name: str) -> Format:
    return Format(partial(find_refcoco, name=name), partial(read_refcoco, name=name), id_space="coco")


VILBERT_VQA = Format(
    partial(find, splits=QUESTIONS, required=TABLE, optional=TARGETS | INVERSE | COCO), read_vqa, id_space="coco"
)
VILBERT_GQA = Format(
    partial(find, splits=TRAINVAL | TESTDEV, required=TABLE, optional=INVERSE | GENOME),
    read_gqa,
    id_space="visual_genome",
)
VILBERT_VISUAL_GENOME_QA = Format(
    partial(find, splits=TRAINVAL, required=TABLE, optional=INVERSE | GENOME), read_genome, id_space="visual_genome"
)
VILBERT_RETRIEVAL = Format(
    partial(find, splits=CAPTIONS, optional=HARD_NEGATIVES | COCO | FLICKR), read_retrieval, id_space="coco"
)
VILBERT_NLVR2 = Format(
    partial(find, splits={split: f"{split}.json" for split in ("train", "dev", "test")}),
    partial(read_each, "nlvr2", nlvr2.statements),
)
VILBERT_SNLI_VE = Format(
    partial(find, splits={split: f"snli_ve_{split}.jsonl" for split in ("train", "dev", "test")}, optional=FLICKR),
    partial(read_each, "snli_ve", hypotheses),
)
VILBERT_CAPTIONS = Format(find_captions, read_captions)
VILBERT_REFCOCO = refcoco_format("refcoco")
VILBERT_REFCOCO_PLUS = refcoco_format("refcoco+")
VILBERT_REFCOCOG = refcoco_format("refcocog")
