"""oscar_data/*: Oscar's own evaluation and submission files, from the case's model, through vlx's tasks."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from tests.parity.adapters.oscar import batch_of, oscar
from tests.parity.adapters.oscar_data_formats import BUILDERS, SPLITS, prepare
from vlx import tasks
from vlx.corpora import Corpus
from vlx.tasks.metrics.recall import recalls
from vlx.tokenization import WordPiece


def check(case: Path) -> None:
    args = json.loads((case / "args.json").read_text())
    tokenizer = WordPiece.load(case / "vocab.txt")
    args["seed"] = int(re.search(r"Dataset seed: (\d+)", (case / "README.md").read_text())[1])
    expected = load_file(case / "expected.safetensors")
    metrics = json.loads((case / "metrics.json").read_text())
    model = oscar(case / "model_config.json", case / "model_weights.safetensors").eval()
    kind = args.get("task_name", "retrieval").split("_")[0]
    measured: dict[str, Any] = {}
    splits = dict.fromkeys(name.rpartition(".")[0] for name in expected if not name.startswith("nopair."))
    for split in [name for name in splits if name != "train"]:
        with TemporaryDirectory() as folder:
            corpus = prepare(case / "data", Path(folder), kind, split, args)
            inputs = BUILDERS[kind](corpus, split, args, tokenizer)
            if kind == "retrieval":
                scores = expected[f"{split}.scores"]
                measured[split] = retrieval_recalls(model, corpus, inputs, scores, cross=split == "test_cross")
            else:
                measured |= answer_scores(model, corpus, split, kind, inputs, case, Path(folder))
    for name, value in metrics.items():
        if isinstance(value, dict):
            for direction, expected_recalls in value.items():
                assert measured[name][direction] == pytest.approx(expected_recalls, abs=1e-6), (name, direction)
        else:
            assert measured[name] == pytest.approx(value, abs=1e-6), name


@torch.no_grad()
def logits_of(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    labels = torch.zeros(len(inputs["input_ids"]), dtype=torch.int64)
    return model(batch_of(inputs | {"labels": labels}, "ce")).logits


def answer_scores(
    model: Any, corpus: Corpus, split: str, kind: str, inputs: Any, case: Path, folder: Path
) -> dict[str, Any]:
    """The score of a split with labels, under the name metrics.json gives it; of a test split the submission file."""
    name = {"nlvr": "nlvr2"}.get(kind, kind)
    task = tasks.load(name, corpus.answers(name))
    examples = corpus.examples(name, SPLITS[kind].get(split, split))
    probabilities = task.probabilities(logits_of(model, inputs), {}).numpy()
    results = case / f"{split}_results.json"
    if results.is_file():
        path = task.write_submission(examples, probabilities, folder / "results")
        assert as_numbers(json.loads(path.read_text())) == as_numbers(json.loads(results.read_text()))
        return {}
    score = task.score(examples, probabilities)["accuracy"]
    return {f"{split}_{'score' if kind == 'vqa' else 'accuracy'}": score, "num_val_examples_used": len(examples)}


def as_numbers(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The original's GQA file lost the ids' leading zeros; vlx keeps them, as the official evaluation expects."""
    return [
        entry | {key: str(int(entry[key])) for key in ("questionId", "question_id") if key in entry}
        for entry in entries
    ]


def retrieval_recalls(
    model: Any, corpus: Corpus, inputs: dict[str, Tensor], expected: Tensor, *, cross: bool
) -> dict[str, dict[str, float]]:
    """R@K of images over captions, and of captions over images where every pair is scored."""
    scores = logits_of(model, inputs).softmax(-1)[:, 1]
    close(scores, expected, "scores")
    names = corpus.splits("retrieval")
    split = "minival" if not cross else next(name for name in reversed(names) if name.startswith("test"))
    num_images = len(set(corpus.examples("retrieval", split)["group"]))
    table = scores.numpy().reshape(num_images, -1)
    matches = (inputs["label"].numpy() == 1).reshape(num_images, -1)
    directions = {"i2t_retrieval": recalls(table, matches)}
    if cross:
        directions["t2i_retrieval"] = recalls(table.T, matches.T)
    return {name: {f"R@{k}": value for k, value in by_cutoff.items()} for name, by_cutoff in directions.items()}
