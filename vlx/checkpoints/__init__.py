"""Models in and out: vlx's own folders, the originals' checkpoints, registered versions."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PreTrainedModel

from vlx import tracking
from vlx.checkpoints.bert import folder_of, start_text, vocab_file
from vlx.checkpoints.lxmert import answer_rows
from vlx.checkpoints.originals import digest, read_answers, read_original, shapes_of, write_original
from vlx.checkpoints.oscar import load_oscar, read_weights
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.config import ImportConfig
from vlx.errors import CheckpointError
from vlx.models.oscar import Oscar
from vlx.tokenization import WordPiece

log = logging.getLogger("vlx")
META = "vlx.json"  # what config.json cannot say: task, images, detector, lengths, data

PRETRAINED = "pretrain"  # the task of a model with the heads of pre-training


@dataclass
class Loaded:
    """A model and all it needs to be used again. meta: system, task, num_images, region_dim, detector, max_text_tokens,
    max_regions, data_fingerprint, and where it was loaded from, `uri`."""

    model: PreTrainedModel
    tokenizer: WordPiece | None  # None: of a system with a tokenizer of its own
    meta: dict[str, Any]
    report: LoadReport

    @property
    def words(self) -> WordPiece:
        """The tokenizer of a system that reads words and regions. Raises CheckpointError if it is another."""
        if self.tokenizer is None:
            raise CheckpointError(f"{self.meta.get('uri', '')}: {self.meta['system']} has no WordPiece vocabulary.")
        return self.tokenizer


def save(folder: Path, model: PreTrainedModel, tokenizer: WordPiece | None, meta: dict[str, Any]) -> Path:
    """Write config.json, model.safetensors, vocab.txt and, last, vlx.json."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    if tokenizer:
        tokenizer.save(folder)
    (folder / META).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def load(uri: str | Path, *, new_head: bool = False) -> Loaded:
    """Load a vlx folder, an original Oscar folder, or models:/name@alias. Raises CheckpointError or RegistryError."""
    uri = tracking.resolve(str(uri))
    folder = tracking.download(uri) if uri.startswith(("models:/", "runs:/")) else Path(uri)
    if (folder / META).is_file():
        loaded = load_own(folder)
    elif (folder / "pytorch_model.bin").is_file():
        model, report = load_oscar(folder, new_head=new_head)
        loaded = Loaded(model, WordPiece.load(folder / "vocab.txt"), original_meta(model), report)
    else:
        raise CheckpointError(
            f"{uri}: no {META} and no pytorch_model.bin there; expected a model folder or models:/name@alias."
        )
    loaded.meta["uri"] = uri
    log.info("%s", loaded.report.summary())
    return loaded


def load_own(folder: Path) -> Loaded:
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / META}: not JSON ({error}).") from error
    auto = AutoModelForPreTraining if meta["task"] == PRETRAINED else AutoModel
    model = auto.from_config(AutoConfig.from_pretrained(folder))
    tied = tuple(model.all_tied_weights_keys)  # are written once, under the other name
    report = load_weights(model, read_weights(folder / "model.safetensors"), source=str(folder), may_miss=tied)
    vocab = folder / "vocab.txt"
    return Loaded(model, WordPiece.load(vocab) if vocab.is_file() else None, meta, report)


def original(cfg: ImportConfig) -> Loaded:
    """An original checkpoint of any system, with its vocabulary and what its task needs."""
    path = Path(cfg.weights)
    model, report = read_original(cfg.system, path)
    log.info("%s", report.summary())
    beside = (path if path.is_dir() else path.parent) / "vocab.txt"
    tokenizer = None if cfg.system == "vle" else WordPiece.load(Path(cfg.vocab) if cfg.vocab else beside)
    answers = read_answers(Path(cfg.answers)) if cfg.answers else []
    labels = getattr(model.config, "num_labels", 0)
    if answers and len(answers) != labels:
        raise CheckpointError(f"{cfg.answers}: {len(answers):,} answers, the model has {labels:,}. Take its own file.")
    lengths = {"max_text_tokens": cfg.max_text_tokens, "max_regions": cfg.max_regions}
    lengths["tags"] = cfg.system == "oscar"
    meta = {"system": cfg.system, "task": cfg.task, "detector": cfg.detector, "answers": answers, **lengths}
    return Loaded(model, tokenizer, meta | {"soft_targets": cfg.task == "vqa"} | shapes_of(model), report)


def original_meta(model: Oscar) -> dict[str, Any]:
    """An original folder names no task: the number of images and of answers tell."""
    config = model.config
    task = "nlvr2" if (config.num_choice, config.num_labels) == (2, 2) else ""
    shapes = {"num_images": config.num_choice, "region_dim": config.img_feature_dim - 6 * config.box_terms}
    lengths = {"max_text_tokens": 55, "max_regions": 40, "tags": True}  # of the published NLVR2 settings
    return {"system": "oscar", "task": task, "detector": "external", **shapes, **lengths}


__all__ = [
    "LoadReport", "Loaded", "answer_rows", "digest", "folder_of", "load", "original", "save", "start_text",
    "vocab_file", "write_original",
]  # fmt: skip
