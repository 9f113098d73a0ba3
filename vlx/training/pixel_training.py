"""What training a system that reads pictures has of its own: splits of pixels, a start from CLIP, two optimizers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlx import models
from vlx.checkpoints import LoadReport
from vlx.checkpoints.clip_vil import start_clip_vil
from vlx.config import FinetuneConfig, PretrainConfig
from vlx.corpora import Corpus
from vlx.corpora.pixels import Canvas, canvas_of
from vlx.errors import ConfigError
from vlx.tasks import Encoded
from vlx.tokenization import WordPiece
from vlx.training.batching import Data, Split, answers_of, padded
from vlx.training.data import TrainingData
from vlx.training.loop import single_group, total_steps
from vlx.training.optim import Group, Optim, Schedule
from vlx.training.pair_pixels import Canvases, Pixels


@dataclass(frozen=True)
class PixelSplit(Split):
    """Examples of one text and one picture. A batch: input_ids and text_mask [B,T], pixels [B,3,H,W], labels [B] and
    perhaps targets [B,A]; in training, kept_places [B,K] if the grid is not shown whole."""

    side: Pixels = dataclasses.field(kw_only=True)

    @cached_property
    def images(self) -> list[str]:
        """The picture of every example."""
        return [row.image_ids[0] for row in self.encoded]

    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        return self.side.epoch_batches(self.images, self.lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, batch_size: int) -> list[list[int]]:
        return self.side.ordered_batches(self.images, self.lengths, batch_size)

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> dict[str, Tensor]:
        draws = [Random(f"{seed}/{epoch}/{index}") for index in indices]
        return self.batch(indices) | self.side.places_kept(draws)

    def collate(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        return collate_pixels(rows, self.side.canvases, labels=self.task.head.labels)


def collate_pixels(rows: Sequence[Encoded], canvases: Canvases, *, labels: int) -> dict[str, Tensor]:
    """The model's input for examples whose pictures are of one canvas, and the answers."""
    texts = [row.texts[0] for row in rows]
    lengths = torch.tensor(list(map(len, texts)))
    return {
        "input_ids": padded(texts, int(lengths.max()), 0),
        "text_mask": torch.arange(int(lengths.max())) < lengths[:, None],
        "pixels": canvases.pixels([row.image_ids[0] for row in rows]),
        **answers_of(rows, labels),
    }


def as_pixels(split: Split, canvas: Canvas, *, kept: int = 0) -> PixelSplit:
    """The same examples for a system that reads pictures. kept: places of the grid that training shows; 0: all. Raises
    ConfigError if the task is not about one picture with named answers."""
    task = split.task
    if task.head.kind != "classify" or task.head.images != 1:
        raise ConfigError(f"task={task.name}: a model that reads pictures names the answer about one; found another.")
    own = {spec.name: getattr(split, spec.name) for spec in dataclasses.fields(Split)}
    return PixelSplit(**own, side=Pixels(canvases_of(split.corpus, canvas), canvas.aspect_groups, kept))


def canvases_of(corpus: Corpus, canvas: Canvas) -> Canvases:
    return Canvases(corpus, shortest=canvas.shortest, longest=canvas.longest)


def all_as_pixels(data: Data, cfg: FinetuneConfig) -> Data:
    canvas, (train, *others) = canvas_of(vars(cfg)), data
    return Data(as_pixels(train, canvas, kept=cfg.kept_places), *(as_pixels(split, canvas) for split in others))


def told_of(cfg: FinetuneConfig | PretrainConfig) -> dict[str, int]:
    """What a model's meta tells of pictures."""
    return canvas_of(vars(cfg))._asdict() | {"region_dim": 0}


def from_clip(cfg: FinetuneConfig | PretrainConfig) -> tuple[PreTrainedModel, WordPiece, LoadReport]:
    """CLIP's network and BERT as one model, whose heads are new, with BERT's vocabulary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        model, report = start_clip_vil(Path(cfg.clip), Path(cfg.bert))
    return model, WordPiece.load(Path(cfg.vocab) if cfg.vocab else Path(cfg.bert).parent / "vocab.txt"), report


def groups_of(cfg: FinetuneConfig | PretrainConfig, train: TrainingData) -> list[Group]:
    """The weights by how they learn: CLIP's network with a rate, a decay and milestones of its own, or all as one."""
    total = total_steps(cfg, train)
    if not cfg.vision_lr:
        return [single_group(cfg, total)]
    epoch = len(train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=0))
    sgd = Optim("sgd", cfg.vision_weight_decay, momentum=cfg.vision_momentum)
    drops = Schedule("constant", 0, total, tuple(epoch * number for number in cfg.milestones()))
    return [Group("vision", sgd, cfg.vision_lr, drops, part=models.PIXELS[cfg.model].VISION), single_group(cfg, total)]
