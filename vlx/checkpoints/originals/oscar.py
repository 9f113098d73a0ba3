"""Oscar's and VinVL's folders: config.json, pytorch_model.bin, vocab.txt (Oscar, oscar/modeling/modeling_bert.py)."""

import dataclasses
import json
from pathlib import Path

from torch import Tensor

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import copied_weights, modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.oscar import Oscar, OscarConfig
from vlx.preprocessing import Preprocessing

IS_FOLDER = True
WEIGHTS = "pytorch_model.bin"
# Entries of the model's configuration; old files also hold run-time switches and bookkeeping.
CONFIG_NAMES = {spec.name for spec in dataclasses.fields(OscarConfig)} & set(OscarConfig.__annotations__)
PRETRAINING_HEADS = ("cls.",)


def read_config(path: Path) -> OscarConfig:
    """The model's entries of an original config.json; absent ones have the original's defaults."""
    try:
        options = dict(json.loads(path.read_text(encoding="utf-8")))
        entries = {name: options[name] for name in CONFIG_NAMES | {"num_labels"} if name in options}
        entries.setdefault("box_terms", entries.get("img_feature_dim", 2054) != 2048)  # 2048: without box terms
        return OscarConfig(**entries)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; an Oscar folder has config.json beside its weights."
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an Oscar configuration ({error}).") from error


def export_original(model: Oscar) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's."""
    return copied_weights(model)


def load_oscar(folder: Path, *, new_head: bool) -> tuple[Oscar, LoadReport]:
    """Load an original folder. new_head: the classifier may be missing and then keeps its random initialization."""
    model = Oscar(read_config(folder / "config.json"))
    weights = read_weights(folder / WEIGHTS)
    may_miss = ("classifier.",) if new_head else ()
    report = load_weights(
        model, weights, source=str(folder), rename=modern_name, may_miss=may_miss, may_exceed=PRETRAINING_HEADS
    )
    return model, report


def load_original(path: Path) -> tuple[Oscar, LoadReport]:
    return load_oscar(path, new_head=False)


def input_shape(model: Oscar) -> tuple[int, int]:
    """Images of an example and features of a region."""
    config = model.config
    return config.num_choice, config.img_feature_dim - 6 * config.box_terms


def preprocessing_of(model: Oscar) -> Preprocessing:
    """An original folder names no task; NLVR2 is recognized by its head. Lengths are those published for NLVR2."""
    num_images, region_dim = input_shape(model)
    return Preprocessing(
        architecture="oscar",
        task="nlvr2" if (num_images, model.config.num_labels) == (2, 2) else "",
        num_images=num_images,
        max_text_tokens=55,
        max_regions=40,
        region_dim=region_dim,
        detector="external",
        object_tags=True,
    )
