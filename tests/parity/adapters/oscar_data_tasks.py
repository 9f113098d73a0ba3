"""oscar_data/*: Oscar's own evaluation and submission files, from the case's model, through vlx's tasks."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from tests.parity.adapters.oscar import batch_of, oscar
from tests.parity.adapters.oscar_data_formats import BUILDERS, SPLITS, prepare
from vlx import tasks
from vlx.corpora import Corpus
from vlx.tasks.retrieval import recalls_of
from vlx.tokenization import WordPiece


def check(case: Path) -> None:
    args, words = json.loads((case / "args.json").read_text()), WordPiece.load(case / "vocab.txt")
    args["seed"] = int(re.search(r"Dataset seed: (\d+)", (case / "README.md").read_text())[1])
    expected, metrics = load_file(case / "expected.safetensors"), json.loads((case / "metrics.json").read_text())
    model = oscar(case / "model_config.json", case / "model_weights.safetensors").eval()
    kind = args.get("task_name", "retrieval").split("_")[0]
    found: dict[str, Any] = {}
    splits = dict.fromkeys(name.rpartition(".")[0] for name in expected if not name.startswith("nopair."))
    for split in [name for name in splits if name != "train"]:
        with TemporaryDirectory() as folder:
            corpus = prepare(case / "data", Path(folder), kind, split, args)
            made = BUILDERS[kind](corpus, split, args, words)
            if kind == "retrieval":
                found[split] = ranked(model, corpus, made, expected[f"{split}.scores"], cross=split == "test_cross")
            else:
                found |= answered(model, corpus, split, kind, made, case, Path(folder))
    known = {"num_val_examples_used": found.pop("examples", None)} if "num_val_examples_used" in metrics else {}
    found.pop("examples", None)
    for name, value in metrics.items():
        ours = (found | known)[name]
        for way in value if isinstance(value, dict) else [None]:
            assert (ours[way] if way else ours) == pytest.approx(value[way] if way else value, abs=1e-6), (name, way)


@torch.no_grad()
def logits_of(model: Any, made: dict[str, Tensor]) -> Tensor:
    return model(batch_of(made | {"labels": torch.zeros(len(made["input_ids"]), dtype=torch.int64)}, "ce")).logits


def answered(model: Any, corpus: Corpus, split: str, kind: str, made: Any, case: Path, folder: Path) -> dict[str, Any]:
    """The score of a split with labels, under the name metrics.json gives it; of a test split the submission file."""
    name = {"nlvr": "nlvr2"}.get(kind, kind)
    task = tasks.load(name, corpus.answers(name))
    examples = corpus.examples(name, SPLITS[kind].get(split, split))
    probabilities = task.probabilities(logits_of(model, made), {}).numpy()
    written = case / f"{split}_results.json"
    if written.is_file():
        path = task.write_submission(examples, probabilities, folder / "results")
        assert as_numbers(json.loads(path.read_text())) == as_numbers(json.loads(written.read_text()))
        return {}
    score = task.score(examples, probabilities)["accuracy"]
    return {f"{split}_{'score' if kind == 'vqa' else 'accuracy'}": score, "examples": len(examples)}


def as_numbers(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The original's GQA file lost the ids' leading zeros; vlx keeps them, as the official evaluation wants."""
    return [
        entry | {key: str(int(entry[key])) for key in ("questionId", "question_id") if key in entry}
        for entry in entries
    ]


def ranked(
    model: Any, corpus: Corpus, made: dict[str, Tensor], scores: Tensor, *, cross: bool
) -> dict[str, dict[str, float]]:
    """R@K of pictures over captions, and of captions over pictures where every pair is scored."""
    found = logits_of(model, made).softmax(-1)[:, 1]
    close(found, scores, "scores")
    names = corpus.splits("retrieval")
    own = "minival" if not cross else next(name for name in reversed(names) if name.startswith("test"))
    images = len(set(corpus.examples("retrieval", own)["group"]))
    table, belongs = (np.asarray(each).reshape(images, -1) for each in (found.numpy(), made["label"].numpy() == 1))
    named = {"i2t_retrieval": (table, belongs)} | ({"t2i_retrieval": (table.T, belongs.T)} if cross else {})
    return {way: {f"R@{k}": value for k, value in recalls_of(*each).items()} for way, each in named.items()}
