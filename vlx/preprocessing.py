"""How examples became a model's input. Saved with the model, so that it is evaluated and served as it was trained."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vlx.errors import CheckpointError

FILE = "vlx.json"  # in a model folder, beside transformers' config.json
PRETRAINED = "pretrain"  # the task of a model with the heads of pre-training


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """architecture: a name of the registry. task: empty if not known. answers: the answer of each label; empty where
    the model scores an example's own choices or regions. soft_targets: probabilities are sigmoids, not a softmax.

    num_images: of an example. max_text_tokens: with special tokens. max_regions, region_dim, detector: of an
    architecture that reads regions. object_tags: read after the text. image_min_size, image_max_size: pixels, of an
    architecture that reads pixels (0: as published), with its aspect_groups (inputs.image_processor).
    data_fingerprint: of the training corpus. stage, objectives: of pre-training.
    """

    architecture: str
    task: str = ""
    answers: tuple[str, ...] = ()
    soft_targets: bool = False
    num_images: int = 1
    max_text_tokens: int
    max_regions: int = 0
    region_dim: int = 0
    detector: str = ""
    object_tags: bool = False
    image_min_size: int = 0
    image_max_size: int = 0
    aspect_groups: int = 0
    data_fingerprint: str = ""
    stage: int = 0
    objectives: tuple[str, ...] = ()

    @property
    def is_pretrained(self) -> bool:
        return self.task == PRETRAINED

    def save(self, folder: Path) -> None:
        content = json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)
        (folder / FILE).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises CheckpointError unless the file holds every required field with its type."""
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not JSON ({error}).") from error
        specs = {spec.name: spec for spec in dataclasses.fields(cls)}
        if not isinstance(content, dict) or content.keys() - specs.keys():
            raise CheckpointError(f"{path}: expected an object with some of {', '.join(specs)}.")
        for name, value in content.items():
            content[name] = checked(path, name, value, specs[name].type)
        try:
            return cls(**content)
        except TypeError as error:
            raise CheckpointError(f"{path}: {error}; expected the file that vlx saves with a model.") from None


def checked(path: Path, name: str, value: Any, kind: Any) -> Any:
    """The value of a field; a list of strings becomes a tuple. Raises CheckpointError."""
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise CheckpointError(f"{path}: {name} is {ascii(value)[:60]}, expected a list of strings.")
        return tuple(value)
    if type(value) is not kind:
        raise CheckpointError(f"{path}: {name} is {ascii(value)[:60]}, expected {kind.__name__}.")
    return value
