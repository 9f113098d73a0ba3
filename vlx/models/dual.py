"""A dual encoder: a tower reads the text, another the regions, and they meet in one cosine (Radford et al. 2021).

Every text and every picture is read once, whatever they are compared with. Names of the text tower are BERT's.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head, Sizes
from vlx.models.layers import Embeddings, Output
from vlx.models.lxmert import EPS, RegionEmbeddings, layers

STEEPEST = math.log(100.0)  # the scale of the cosine grows no further, as CLIP's


class DualConfig(PretrainedConfig):
    """BERT's configuration, the region tower's and the temperature that learning starts from (CLIP's)."""

    model_type = "vlx-dual"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12  # of text
    region_layers: int = 0
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    visual_feat_dim: int = 2048
    visual_pos_dim: int = 4
    temperature: float = 0.07
    num_labels: int = 2


class TextTower(nn.Module):
    """input_ids and mask [B,T] -> [B,T,H]."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=EPS, dropout=config.hidden_dropout_prob,
        )  # fmt: skip
        self.encoder = nn.ModuleDict({"layer": layers(config, config.num_hidden_layers)})

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embeddings(input_ids, torch.zeros_like(input_ids))
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            hidden = layer(hidden, mask)
        return hidden


class RegionTower(nn.Module):
    """regions [B,R,D], boxes [B,R,4] and mask [B,R] -> [B,R,H]."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.embeddings = RegionEmbeddings(config)
        self.layers = layers(config, config.region_layers)

    def forward(self, regions: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embeddings(regions, boxes)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden


class Dual(PreTrainedModel):
    """Says how well a text and a picture match: the cosine of two vectors over a temperature that is learnt."""

    config_class = DualConfig
    base_model_prefix = "text"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: DualConfig) -> None:
        super().__init__(config)
        self.text, self.picture = TextTower(config), RegionTower(config)
        self.text_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.picture_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.post_init()

    def forward(self, batch: dict[str, Tensor]) -> Output:
        """logits [B,2] of each text with its own picture: 0 for apart, which is a picture at right angles to the text.
        scores: `texts` and `pictures` [B,H], of length 1, and `match` [B,B], of each text with each picture.

        batch: input_ids and text_mask [..,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R].
        """
        text, regions = self.read_text(batch), self.read_picture(batch)
        texts, pictures = self.texts(batch, text), self.pictures(batch, regions)
        match = self.match(texts, pictures)
        together = match.diagonal()
        logits = torch.stack([torch.zeros_like(together), together], -1)
        found = {"texts": texts, "pictures": pictures, "match": match}
        return Output(logits, torch.cat([texts, pictures], -1), text, regions, scores=found)

    def read_text(self, batch: dict[str, Tensor]) -> Tensor:
        return self.text(batch["input_ids"].flatten(0, -2), batch["text_mask"].flatten(0, -2))

    def read_picture(self, batch: dict[str, Tensor]) -> Tensor:
        regions, boxes = batch["regions"].flatten(0, -3), batch["boxes"].flatten(0, -3)
        return self.picture(regions, boxes, batch["region_mask"].flatten(0, -2))

    def texts(self, batch: dict[str, Tensor], hidden: Tensor | None = None) -> Tensor:
        """[B,H], of length 1. hidden: what read_text gave."""
        hidden = self.read_text(batch) if hidden is None else hidden
        return F.normalize(self.text_projection(mean_of(hidden, batch["text_mask"])), dim=-1)

    def pictures(self, batch: dict[str, Tensor], hidden: Tensor | None = None) -> Tensor:
        """[B,H], of length 1. hidden: what read_picture gave."""
        hidden = self.read_picture(batch) if hidden is None else hidden
        return F.normalize(self.picture_projection(mean_of(hidden, batch["region_mask"])), dim=-1)

    def match(self, texts: Tensor, pictures: Tensor) -> Tensor:
        """Scaled cosines [N,M] of vectors [N,H] and [M,H]."""
        return self.log_scale.clamp(max=STEEPEST).exp() * texts @ pictures.T


def mean_of(hidden: Tensor, mask: Tensor) -> Tensor:
    """[B,L,H] -> [B,H], over the real of L; mask [..,L]. 0 where none is."""
    real = mask.flatten(0, -2)[..., None]
    return (hidden * real).sum(1) / real.sum(1).clamp(min=1)


def configure(head: Head, sizes: Sizes) -> DualConfig:
    """For the head of retrieval, which the towers need no weights for."""
    return DualConfig(
        vocab_size=sizes.vocab_size, max_position_embeddings=sizes.positions, visual_feat_dim=sizes.region_dim,
        hidden_size=sizes.hidden, num_hidden_layers=sizes.layers, region_layers=sizes.region_layers,
        num_attention_heads=sizes.heads, intermediate_size=sizes.intermediate,
        initializer_range=sizes.initializer_range, hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.attention_dropout, **with_head(head),
    )  # fmt: skip


def with_head(head: Head) -> dict[str, Any]:
    return {"num_labels": head.labels}


AutoConfig.register(DualConfig.model_type, DualConfig)
AutoModel.register(DualConfig, Dual)
