"""Model folders of vlx: config.json, model.safetensors, the tokenizer's files and vlx.json."""

import logging
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PreTrainedModel

from vlx import tracking
from vlx.checkpoints.originals import oscar
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import read_weights
from vlx.errors import CheckpointError
from vlx.models.spec import ModelSpec, load_spec
from vlx.preprocessing import FILE, Preprocessing
from vlx.tokenization import WordPiece

log = logging.getLogger("vlx")


@dataclass
class Loaded:
    """A model and all that it needs to be used again. uri: where it was loaded from."""

    model: PreTrainedModel
    tokenizer: WordPiece | None  # None: the architecture has a tokenizer of its own
    preprocessing: Preprocessing
    report: LoadReport
    uri: str = ""

    @property
    def spec(self) -> ModelSpec:
        return load_spec(self.preprocessing.architecture)

    @property
    def wordpiece(self) -> WordPiece:
        """Raises CheckpointError if the architecture has another tokenizer."""
        if self.tokenizer is None:
            raise CheckpointError(f"{self.uri}: {self.preprocessing.architecture} has no WordPiece vocabulary.")
        return self.tokenizer


def save(folder: Path, loaded: Loaded) -> Path:
    """Write the folder; vlx.json last."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded.model.save_pretrained(folder)
    if loaded.tokenizer:
        loaded.tokenizer.save(folder)
    loaded.preprocessing.save(folder)
    return folder


def load(uri: str | Path, *, new_head: bool = False) -> Loaded:
    """Load a vlx folder, an original Oscar folder, or models:/name@alias. new_head: an original may lack its
    classifier. Raises CheckpointError or RegistryError."""
    uri = tracking.resolve(str(uri))
    folder = tracking.download(uri) if uri.startswith(("models:/", "runs:/")) else Path(uri)
    if (folder / FILE).is_file():
        loaded = load_folder(folder)
    elif (folder / oscar.WEIGHTS).is_file():
        model, report = oscar.load_oscar(folder, new_head=new_head)
        loaded = Loaded(model, WordPiece.load(folder / "vocab.txt"), oscar.preprocessing_of(model), report)
    else:
        raise CheckpointError(
            f"{uri}: no {FILE} and no {oscar.WEIGHTS} there; expected a model folder or models:/name@alias."
        )
    loaded.uri = uri
    log.info("%s", loaded.report.summary())
    return loaded


def load_folder(folder: Path) -> Loaded:
    preprocessing = Preprocessing.load(folder)
    load_spec(preprocessing.architecture)  # registers it with transformers
    auto = AutoModelForPreTraining if preprocessing.is_pretrained else AutoModel
    model = auto.from_config(AutoConfig.from_pretrained(folder))
    tied = tuple(model.all_tied_weights_keys)  # saved once, under the other name
    report = load_weights(model, read_weights(folder / "model.safetensors"), source=str(folder), may_miss=tied)
    vocab = folder / "vocab.txt"
    return Loaded(model, WordPiece.load(vocab) if vocab.is_file() else None, preprocessing, report)
