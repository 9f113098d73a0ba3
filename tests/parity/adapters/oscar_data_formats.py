"""oscar_data/*: what Oscar's own data sets gave, rebuilt from the corpus of its files."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx import corpora
from vlx.corpora import Corpus
from vlx.tasks.retrieval_sampling import draw_negative
from vlx.tokenization import WordPiece, cut_pair

Args = dict[str, Any]
Fields = dict[str, Tensor]
SPLITS = {  # the corpus's names for the case's, where they differ
    "vqa": {"test2015": "test", "test-dev2015": "testdev"},
    "gqa": {"test": "submission", "test-dev": "testdev"},
    "nlvr": {"val": "dev"},
}
FORMATS = {"vqa": "oscar-vqa", "nlvr": "oscar-nlvr2", "retrieval": "oscar-retrieval"}


def check(case: Path) -> None:
    """Every field of every example of every split. Each split is prepared on its own: the case's splits name different
    pictures alike."""
    args, words = json.loads((case / "args.json").read_text()), WordPiece.load(case / "vocab.txt")
    args["seed"] = int(re.search(r"Dataset seed: (\d+)", (case / "README.md").read_text())[1])
    expected: dict[str, Fields] = {}
    for name, tensor in load_file(case / "expected.safetensors").items():
        split, _, field = name.rpartition(".")
        expected.setdefault(split, {})[field] = tensor
    kind = args.get("task_name", "retrieval").split("_")[0]
    for name, fields in expected.items():
        with TemporaryDirectory() as folder:
            split = name.removeprefix("nopair.")
            corpus = prepare(case / "data", Path(folder), kind, split, args)
            fields.pop("scores", None)  # a model's
            made = BUILDERS[kind](corpus, name, args, words)
            assert made.keys() >= fields.keys() and set(made) - set(fields) <= {
                "attention_mask_txt",
                "attention_mask_img",
            }
            for field, tensor in fields.items():
                if not field.startswith("pair_"):  # of the others a case may keep the first rows
                    made[field] = made[field][: len(tensor)]
                close(made[field], tensor, f"{name}.{field}")


def prepare(data: Path, scratch: Path, kind: str, split: str, args: Args) -> Corpus:
    """The files of the split alone, as far as they are named for one, made with the case's options."""
    format, own = FORMATS.get(kind), re.escape(re.sub(r"20\d\d$|_cross$", "", split))
    if kind == "gqa":
        role = {"train": "train", "val": "eval"}.get(split, "test")
        format = f"oscar-gqa-{args[f'{role}_data_type']}"
    others = rf"_(?!{args.get('od_label_type')})[a-z]+_labels\.pt"
    others += "" if args["data_label_type"] == "mask" else "|_mrcnn"
    wanted = r".*" if kind in ("gqa", "nlvr") else rf"{own}(20\d\d)?_.*|.*\.pkl"
    for path in data.iterdir():
        if re.fullmatch(wanted, path.name) and not re.search(others, path.name):
            shutil.copyfile(path, scratch / path.name)
    return corpora.prepare(format, scratch, scratch / "corpus", dtype="float32")


def inputs(pairs: Sequence[tuple[list[int], list[int]]], regions: Sequence[Tensor], tokens: int, most: int) -> Fields:
    """What the model reads, one row a pair: padded to `tokens` and `most` regions."""
    ids, segments = torch.zeros(2, len(pairs), tokens, dtype=torch.int64)
    text, image = torch.zeros_like(ids), torch.zeros(len(pairs), most, dtype=torch.int64)
    features = torch.zeros(len(pairs), most, regions[0].shape[1])
    for row, ((pieces, kinds), found) in enumerate(zip(pairs, regions, strict=True)):
        ids[row, : len(pieces)], segments[row, : len(pieces)] = torch.tensor(pieces), torch.tensor(kinds)
        text[row, : len(pieces)], image[row, : len(found[:most])] = 1, 1
        features[row, : len(found[:most])] = found[:most]
    return {
        "input_ids": ids,
        "token_type_ids": segments,
        "attention_mask": torch.cat([text, image], 1),
        "attention_mask_txt": torch.cat([text, torch.zeros_like(image)], 1),
        "attention_mask_img": torch.cat([torch.zeros_like(text), image], 1),
        "img_feats": features,
    }


def regions_of(corpus: Corpus, image: str) -> Tensor:
    """[R,D+6]: features, x1 y1 x2 y2 w h."""
    features, boxes = map(torch.tensor, corpus.regions(image))
    return torch.cat([features, boxes, boxes[:, 2:] - boxes[:, :2]], 1)


def questions(corpus: Corpus, split: str, args: Args, words: WordPiece) -> Fields:
    """VQA and GQA."""
    task = args["task_name"].split("_")[0]
    rows, vocabulary = list(corpus.examples(task, SPLITS[task].get(split, split))), corpus.answers(task)
    tags = [json.loads(row["extra"])["tags"][0] * (args["task_name"] != "vqa_text_a") for row in rows]
    pairs = words.encode_pairs([row["text"] for row in rows], tags, limit=args["max_seq_length"])
    regions = [regions_of(corpus, image) for row in rows for image in row["image_ids"]]
    first = torch.tensor([[vocabulary.index(row["answers"][0]) if row["answers"] else 0] for row in rows])
    targets = torch.zeros(len(rows), len(vocabulary))
    for number, row in enumerate(rows):
        for answer, score in zip(row["answers"], row["scores"], strict=True):
            targets[number, vocabulary.index(answer)] = score
    return inputs(pairs, regions, args["max_seq_length"], args["max_img_seq_length"]) | {
        "q_id": torch.tensor([[int(row["identifier"]) if split.startswith("test") else 0] for row in rows]),
        **({"labels": targets, "label_id": first} if task == "vqa" else {"labels": first}),
    }


def statements(corpus: Corpus, split: str, args: Args, words: WordPiece) -> Fields:
    """NLVR2. In pairs, the original cuts the text of the right picture as it was cut beside the tags of the left."""
    limit, most = args["max_seq_length"], args["max_img_seq_length"]
    rows, paired = [], args["use_pair"] and not split.startswith("nopair.")
    examples = corpus.examples("nlvr2", SPLITS["nlvr"].get(split.removeprefix("nopair."), split))
    for row in examples:
        tags = [one * args["use_label_seq"] for one in json.loads(row["extra"])["tags"]]
        regions = [regions_of(corpus, image) for image in row["image_ids"]]
        if not paired:
            pairs = words.encode_pairs([row["text"]], [" ".join(tags).strip()], limit=limit)
            rows.append({key: each[0] for key, each in inputs(pairs, [torch.cat(regions)], limit, 2 * most).items()})
            continue
        (text,), pairs = words.token_ids([row["text"]]), []
        for others in words.token_ids(tags):
            text, others = cut_pair(text, others, limit=limit, cut="longer")
            pairs.append(words.with_special_tokens(text, others))
        rows.append(inputs(pairs, regions, limit, most))
    stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    zeros = torch.zeros(len(rows), 1, dtype=torch.int64)
    return stacked | {"q_id": zeros, "labels": torch.tensor(examples["label"])[:, None]}


def captions(corpus: Corpus, split: str, args: Args, words: WordPiece) -> Fields:
    """COCO: pairs that belong together and others, captions to rank, or every caption with every picture."""
    assert args["att_mask_type"] == "CLR"
    names = corpus.splits("retrieval")
    own = split if split in names else next(name for name in reversed(names) if name.startswith("test"))
    said: dict[str, list[str]] = {}
    ranked: dict[str, list[str]] = {}
    for row in corpus.examples("retrieval", own):
        said.setdefault(row["group"], []).append(row["text"])
        ranked[row["group"]] = json.loads(row["extra"])["candidates"] if row["extra"] else []

    def made(pairs: Sequence[tuple[str, str, int]]) -> Fields:
        """Of (picture, caption, whether they belong together)."""
        tags = [" ".join(corpus.tags(image)) if args["add_od_labels"] else "" for image, _, _ in pairs]
        texts = words.encode_pairs([text for _, text, _ in pairs], tags, limit=args["max_seq_length"], cut="second")
        regions = [regions_of(corpus, image) for image, _, _ in pairs]
        labels = torch.tensor([label for _, _, label in pairs])
        return inputs(texts, regions, args["max_seq_length"], args["max_img_seq_length"]) | {"label": labels}

    if split == "train":
        return trained(said, made, args)
    if split == "minival":
        place = {f"{image}-{number}": text for image in said for number, text in enumerate(said[image])}
        pairs = [(image, place[one], int(one.rpartition("-")[0] == image)) for image in said for one in ranked[image]]
    else:
        every = [(image, text) for image in said for text in said[image][: args["num_captions_per_img_val"]]]
        pairs = [(image, text, int(owner == image)) for image in said for owner, text in every]
    return (found := made(pairs)) | {"pair_labels": found["label"]}


def trained(said: dict[str, list[str]], made: Any, args: Args) -> Fields:
    """Each picture with each of its captions, and beside it a negative."""
    images, each, rng = list(said), args["num_captions_per_img_train"], Random(args["seed"])
    right, wrong = [], []
    for own, image in enumerate(images):
        for text in said[image][:each]:
            other, caption = draw_negative(own, rng, num_captions=[each] * len(images))
            right.append((image, text, 1))
            wrong.append((images[other], text, 0) if caption is None else (image, said[images[other]][caption], 0))
    return made(right) | {f"neg_{key}": tensor for key, tensor in made(wrong).items()}


BUILDERS = {"vqa": questions, "gqa": questions, "nlvr": statements, "retrieval": captions}
