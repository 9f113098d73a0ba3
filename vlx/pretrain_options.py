"""The options of pre-training alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlx.errors import ConfigError
from vlx.options import option
from vlx.pixel_options import PixelFields

PRETRAINING = {  # what each system may learn in pre-training
    "lxmert": ("words", "matched", "objects", "attributes", "features", "answers"),
    "vilbert": ("words", "matched", "regions"),
    "clip_vil": ("words", "matched", "answers"),
    "oscar": ("words", "matched"),
}


@dataclass(frozen=True, kw_only=True)
class PretrainFields(PixelFields):
    """What pre-training learns, and how much is hidden."""

    model: str = option("lxmert", "the system", choices=tuple(PRETRAINING))
    weights: str = option("", "model to go on from: folder or models:/name@alias; empty: from scratch")
    objectives: str = option("", "what is learnt, joined by commas; empty: all that system and corpus have")
    loss_weights: str = option("", "of these, as answers=2,regions=0.5; 1 where none is given")
    word_mask: float = option(0.15, "share of words to guess", low=0, high=1)
    region_mask: float = option(0.15, "share of regions to guess", low=0, high=1)
    swapped: float = option(0.5, "share of texts shown with another's picture, to tell if they match", low=0, high=1)
    only_matched: bool = option(False, "nothing is to be guessed of a text shown with another's picture")
    visual_loss_mask: str = option(
        "confidence", "what LXMERT's regions count", choices=("confidence", "masked", "both")
    )
    visual_target: int = option(
        0, "ViLBERT guesses of a region 0: its class, 1: its features, 2: which it is", low=0, high=2
    )
    negatives: int = option(128, "regions among which it is, of visual_target=2", low=2)
    object_classes: int = option(0, "of the detector; 0: as many as the corpus shows", low=0)
    attribute_classes: int = option(0, "the same of attributes", low=0)
    stop_epoch: int = option(0, "epochs after which training ends, with the schedule of all; 0: none", low=0)
    fixed_text_layers: int = option(0, "ViLBERT's first text layers, and embeddings, which stay as they are", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = PRETRAINING[self.model]
        weighed = [pair.partition("=") for pair in self.loss_weights.split(",") if pair]
        for key, names in (("objectives", self.chosen()), ("loss_weights", [name for name, _, _ in weighed])):
            for name in set(names) - set(known):
                raise ConfigError(f"{key}: found {name}, model={self.model} expects some of {', '.join(known)}.")
        for name, _, number in weighed:
            if not re.fullmatch(r"\d+(\.\d+)?", number):
                raise ConfigError(f"loss_weights: {name}={number}: expected a number of at least 0.")
        if self.fixed_text_layers and self.model != "vilbert":
            raise ConfigError(f"fixed_text_layers={self.fixed_text_layers}: expected model=vilbert.")

    def chosen(self) -> list[str]:
        """The objectives that were named."""
        return self.objectives.split(",") if self.objectives else []

    def wanted(self) -> Sequence[str]:
        """The objectives that were named, or all of the system."""
        return self.chosen() or PRETRAINING[self.model]

    def weighed(self) -> dict[str, float]:
        """The weights that were given, by objective."""
        pairs = (pair.partition("=") for pair in self.loss_weights.split(",") if pair)
        return {name: float(number) for name, _, number in pairs}
