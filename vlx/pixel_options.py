"""The options of systems that read pictures themselves."""

import re
from dataclasses import dataclass, fields

from vlx.errors import ConfigError
from vlx.options import Config, option

STRIDE = 32  # pixels of a place of the grid
NUMBERS = re.compile(r"(\d+(,\d+)*)?")


@dataclass(frozen=True, kw_only=True)
class PixelFields(Config):
    clip: str = option("", "CLIP's weights to begin with, OpenAI's or open_clip's; with bert")
    bert: str = option("", "BERT's, to begin with; vocab.txt beside it; with clip")
    vision_layers: str = option("1,1,1,1", "blocks of the four stages of CLIP's network; RN50: 3,4,6,3")
    vision_width: int = option(16, "channels of its stem; RN50: 64", low=2)
    shortest: int = option(64, "shorter side of a picture's canvas in pixels; published: 384", low=STRIDE)
    longest: int = option(64, "its longer side; published: 640", low=STRIDE)
    aspect_groups: int = option(5, "batches are of like shape: twice so many, from 1:2 to 2:1; 0: wide or not", low=0)
    kept_places: int = option(0, "of a picture's grid, drawn anew, that training shows; published: 100; 0: all", low=0)
    vision_lr: float = option(0.0, "of CLIP's network, which then learns by SGD; 0: it learns as all the rest", low=0)
    vision_momentum: float = option(0.0, "of that SGD", low=0, high=0.999)
    vision_weight_decay: float = option(4e-4, "of the same", low=0)
    vision_milestones: str = option("", "epochs, the first is 0, from which vision_lr is a tenth; joined by commas")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vision_layers", "vision_milestones"):
            if not NUMBERS.fullmatch(getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)}: expected numbers joined by commas.")
        if len(self.stages()) != 4 or 0 in self.stages() or self.vision_width % 2:
            found = f"vision_layers={self.vision_layers}, vision_width={self.vision_width}"
            raise ConfigError(f"{found}: expected four stages of a block or more, and an even width.")
        if bool(self.clip) != bool(self.bert):
            raise ConfigError(f"clip={self.clip}, bert={self.bert}: expected both, or neither.")
        if self.shortest % STRIDE or self.longest % STRIDE or self.shortest > self.longest:
            found = f"shortest={self.shortest}, longest={self.longest}"
            raise ConfigError(f"{found}: expected multiples of {STRIDE}, shortest at most longest.")
        verb = vars(self)  # the options of every verb that may read pictures
        if self.pixel_options() and verb["model"] != "clip_vil":
            raise ConfigError(f"{self.pixel_options()[0]}: of systems that read pictures; expected model=clip_vil.")
        if verb["weights"] and self.clip:
            raise ConfigError(f"weights={verb['weights']}, clip={self.clip}: expected one of them.")
        places = self.shortest * self.longest // STRIDE**2
        if self.kept_places > places:
            raise ConfigError(f"kept_places={self.kept_places}: expected at most the {places} of a picture's grid.")

    def pixel_options(self) -> list[str]:
        """Names of those that are not at their default."""
        return [spec.name for spec in fields(PixelFields) if getattr(self, spec.name) != spec.default]

    def stages(self) -> tuple[int, ...]:
        return numbers(self.vision_layers)

    def milestones(self) -> tuple[int, ...]:
        return numbers(self.vision_milestones)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)
