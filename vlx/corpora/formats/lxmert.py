"""LXMERT's own annotations: questions with soft labels, pairs of pictures, the sentences of its pre-training.

lxmert-vqa        <source>/vqa/train.json nominival.json minival.json test.json, trainval_label2ans.json
lxmert-gqa        <source>/gqa/train.json valid.json testdev.json submit.json, trainval_label2ans.json
lxmert-nlvr2      <source>/nlvr2/train.json valid.json test.json
lxmert-pretrain   <source>/lxmert/mscoco_train.json mscoco_nominival.json ..., all_ans.json
lxmert-pretrain-vqa-gqa   the same with the answers of these sets alone, as of any of vqa, gqa, visual7w

Some of the splits will do; they may lie in <source> itself. Regions are sought in <source>/mscoco_imgfeat and the like,
and in all of the source where there is no such folder. An image without regions is an error, not left out silently.
"""

import json
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

from vlx.corpora.formats.files import (
    Format,
    answer_table,
    field,
    load_json,
    objects,
    require,
    soft_labels,
    unique,
    whole_or_text,
)
from vlx.corpora.formats.nlvr2 import IDENTIFIER
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = {  # by folder
    "vqa": ("train", "nominival", "minival", "test"),
    "gqa": ("train", "valid", "testdev", "submit"),
    "nlvr2": ("train", "valid", "test"),
    "lxmert": ("mscoco_train", "mscoco_nominival", "mscoco_minival", "vgnococo"),
}
VOCABULARY = {"vqa": "trainval_label2ans.json", "gqa": "trainval_label2ans.json", "lxmert": "all_ans.json"}
REGIONS = {"vqa": ("mscoco",), "gqa": ("vg_gqa",), "nlvr2": ("nlvr2",), "lxmert": ("mscoco", "vg_gqa")}
UNLABELLED = ("test", "submit")  # splits of questions whose answers are not published
QA_SETS = ("vqa", "gqa", "visual7w")  # where an answer of all_ans.json is from
SAME = {"a man": "man", "the man": "man", "a woman": "woman", "the woman": "woman", "grey": "gray"}
SAME |= {word: str(n) for n, word in enumerate("one two three four five six seven eight nine ten".split(), 1)}


def find(folder: Path, name: str) -> dict[str, Path]:
    """The splits there are, the vocabulary, regions and pictures. `name`: of SPLITS."""
    place = folder / name if (folder / name).is_dir() else folder
    require(place, *(f"{split}.json" for split in SPLITS[name]))  # one of them will do
    found = {split: path for split in SPLITS[name] if (path := place / f"{split}.json").is_file()}
    if name in VOCABULARY:
        found["vocabulary"] = require(place, VOCABULARY[name])
    if (place / "trainval_ans2label.json").is_file():
        found["inverse"] = place / "trainval_ans2label.json"
    own = [f"regions {part}_imgfeat/" for part in REGIONS[name] if (folder / f"{part}_imgfeat").is_dir()]
    wanted = (*own, "pictures ") if own else ("",)
    return found | {role: path for role, path in find_images(folder).items() if role.startswith(wanted)}


def read(files: dict[str, Path], writer: CorpusWriter, *, task: str) -> str:
    """vqa, gqa, nlvr2."""
    if task in VOCABULARY:
        inverse = load_json(files["inverse"], dict) if "inverse" in files else None
        writer.add_answers(task, answer_table(load_json(files["vocabulary"], list), str(files["vocabulary"]), inverse))
    rows_of = pairs if task == "nlvr2" else questions
    splits = {split: rows_of(files[split]) for split in SPLITS[task] if split in files}
    wanted = {name: f"{split} {row.identifier}" for split in splits for row in splits[split] for name in row.image_ids}
    for split, rows in splits.items():
        writer.add_examples(task, split, rows)
    return add_images(writer, files, wanted)


def questions(path: Path) -> list[Example]:
    """A split of VQA or GQA."""
    rows, seen = [], set[str]()
    for where, record in objects(load_json(path, list), path):
        identifier = unique(whole_or_text(record, "question_id", where), seen, where, "question_id")
        text, image = field(record, "sent", where)[0], whole_or_text(record, "img_id", where)
        hidden = path.stem in UNLABELLED and "label" not in record
        answers = {} if hidden else soft_labels(record.get("label"), where)
        types = {key: field(record, key, where)[0] for key in ("answer_type", "question_type") if key in record}
        kind, extra = types.get("answer_type", ""), json.dumps(types) if types else ""
        rows.append(Example(identifier, text, [image], [*answers], [*answers.values()], category=kind, extra=extra))
    return rows


def pairs(path: Path) -> list[Example]:
    """A split of NLVR2. A group is a statement over its pairs, as of the official files."""
    rows, seen = [], set[str]()
    for where, record in objects(load_json(path, list), path):
        match = field(record, "identifier", where, IDENTIFIER, "<split>-<set>-<pair>-<sentence>")
        images, text = [field(record, key, where)[0] for key in ("img0", "img1")], field(record, "sent", where)[0]
        label, group = record.get("label"), f"{match[1]}-{match[2]}--{match[4]}"
        if type(label) is not int or label not in (0, 1):
            raise CorpusError(f"{where}: label is {ascii(label)[:60]}, expected 0 or 1. Correct the record.")
        rows.append(Example(unique(match[0], seen, where), text, images, label=label, group=group))
    return rows


def read_pretraining(files: dict[str, Path], writer: CorpusWriter, *, qa_sets: tuple[str, ...]) -> str:
    """With the answers of all_ans.json that are from one of `qa_sets`."""
    table, wanted = pretraining_answers(files["vocabulary"], qa_sets), dict[str, str]()
    writer.add_answers("pretrain", table)
    for split in [name for name in SPLITS["lxmert"] if name in files]:
        writer.add_examples("pretrain", split, sentences(files[split], frozenset(table), wanted))
    return add_images(writer, files, wanted)


def pretraining_answers(path: Path, qa_sets: tuple[str, ...]) -> list[str]:
    chosen = []
    for where, record in objects(load_json(path, list), path):
        sets = record.get("dsets")
        if not isinstance(sets, list) or not all(name in QA_SETS for name in sets):
            raise CorpusError(f"{where}: dsets is {ascii(sets)[:60]}, expected a list of {', '.join(QA_SETS)}.")
        chosen += [record.get("ans")] if set(sets) & set(qa_sets) else []
    return answer_table(chosen, str(path))


def sentences(path: Path, table: frozenset[str], wanted: dict[str, str]) -> Iterator[Example]:
    """Every sentence of every source of every image; the images are noted in `wanted`. Answers outside the table are
    left out; `labelled` in extra tells a question that has none left from a caption."""
    seen: set[str] = set()
    for where, record in objects(load_json(path, list), path):
        image = unique(field(record, "img_id", where)[0], seen, where, "img_id")
        wanted.setdefault(image, where)
        texts, labels = record.get("sentf"), record.get("labelf", {})
        if not isinstance(texts, dict) or not isinstance(labels, dict) or labels.keys() - texts.keys():
            raise CorpusError(f"{where}: sentf and labelf are not objects of the same sources. Correct the record.")
        for source, lines in texts.items():
            given = labels.get(field({"source": source}, "source", where)[0], lines)
            if not isinstance(lines, list) or not isinstance(given, list) or len(given) != len(lines):
                raise CorpusError(f"{where}: {source} is not a list of sentences with a label each. Correct it.")
            extra = json.dumps({"labelled": True}) if source in labels else ""
            for number, (line, label) in enumerate(zip(lines, given, strict=True)):
                at, name = f"{where}: {source} {number}", f"{image}_{source}_{number:03d}"
                text = field({"sentence": line}, "sentence", at)[0]
                answers = converted(soft_labels(label, at), table) if extra else {}
                yield Example(name, text, [image], [*answers], [*answers.values()], category=source, extra=extra)


def converted(scores: dict[str, float], table: frozenset[str]) -> dict[str, float]:
    """Answers as in the table, and only those; one that was written otherwise outweighs its like that was not."""
    own = {answer: score for answer, score in scores.items() if convert_answer(answer) == answer}
    others = {convert_answer(answer): score for answer, score in scores.items() if answer not in own}
    return {answer: score for answer, score in (own | others).items() if answer in table}


def convert_answer(answer: str) -> str:
    """Lower case, without full stop and articles, numbers up to ten as figures."""
    answer = answer.lower()
    answer = answer[:-1].strip() if answer.endswith(".") else answer
    for article in ("a ", "an ", "the "):
        answer = answer.removeprefix(article).strip() if answer.startswith(article) else answer
    return SAME.get(answer, answer)


FORMATS = {
    f"lxmert-{task}": Format(partial(find, name=task), partial(read, task=task)) for task in ("vqa", "gqa", "nlvr2")
}
FORMATS |= {
    "-".join(["lxmert-pretrain", *sets]): Format(
        partial(find, name="lxmert"), partial(read_pretraining, qa_sets=sets or QA_SETS)
    )
    for count in (0, 1, 2)
    for sets in combinations(QA_SETS, count)
}
