"""A dual encoder: text and regions are encoded apart and compared by a cosine (Radford et al. 2021).

Every text and every image is encoded once, whatever it is compared with. The text encoder has BERT's names.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head
from vlx.models.layers import Embeddings, Output, encoder_layers
from vlx.models.lxmert import EPS, RegionEmbeddings
from vlx.models.spec import ModelSpec

MAX_LOG_SCALE = math.log(100.0)  # of the cosine, as in CLIP


class DualConfig(PretrainedConfig):
    """BERT's configuration, the region encoder's, and the initial temperature (CLIP's)."""

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


class TextEncoder(nn.Module):
    """input_ids and mask [B,T] -> [B,T,H]."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=EPS, dropout=config.hidden_dropout_prob,
        )  # fmt: skip
        self.encoder = nn.ModuleDict({"layer": encoder_layers(config, config.num_hidden_layers, eps=EPS)})

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embeddings(input_ids, torch.zeros_like(input_ids))
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            hidden = layer(hidden, mask)
        return hidden


class RegionEncoder(nn.Module):
    """regions [B,R,D], boxes [B,R,4] and mask [B,R] -> [B,R,H]."""

    def __init__(self, config: DualConfig) -> None:
        super().__init__()
        self.embeddings = RegionEmbeddings(config)
        self.layers = encoder_layers(config, config.region_layers, eps=EPS)

    def forward(self, regions: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        hidden = self.embeddings(regions, boxes)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden


class Dual(PreTrainedModel):
    """Image-text similarity: the cosine of two vectors over a learned temperature."""

    config_class = DualConfig
    base_model_prefix = "text"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: DualConfig) -> None:
        super().__init__(config)
        self.text = TextEncoder(config)
        self.image = RegionEncoder(config)
        self.text_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.image_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.post_init()

    def forward(self, batch: dict[str, Tensor]) -> Output:
        """logits [B,2] of each text with its own image: 0 for no match, and the similarity. pooled [B,2H]: text and
        image vectors of length 1. scores: `similarity` [B,B] of each text with each image.

        batch: input_ids and text_mask [..,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R].
        """
        text_hidden = self.text(batch["input_ids"].flatten(0, -2), batch["text_mask"].flatten(0, -2))
        region_hidden = self.encode_regions(batch)
        texts = self.text_vectors(batch, text_hidden)
        images = self.image_vectors(batch, region_hidden)
        similarity = self.similarity(texts, images)
        matching = similarity.diagonal()
        logits = torch.stack([torch.zeros_like(matching), matching], -1)
        pooled = torch.cat([texts, images], -1)
        return Output(logits, pooled, text_hidden, region_hidden, scores={"similarity": similarity})

    def encode_texts(self, batch: dict[str, Tensor]) -> Tensor:
        """[B,H], of length 1."""
        return self.text_vectors(batch, self.text(batch["input_ids"].flatten(0, -2), batch["text_mask"].flatten(0, -2)))

    def encode_images(self, batch: dict[str, Tensor]) -> Tensor:
        """[B,H], of length 1."""
        return self.image_vectors(batch, self.encode_regions(batch))

    def encode_regions(self, batch: dict[str, Tensor]) -> Tensor:
        regions = batch["regions"].flatten(0, -3)
        return self.image(regions, batch["boxes"].flatten(0, -3), batch["region_mask"].flatten(0, -2))

    def text_vectors(self, batch: dict[str, Tensor], hidden: Tensor) -> Tensor:
        return F.normalize(self.text_projection(masked_mean(hidden, batch["text_mask"])), dim=-1)

    def image_vectors(self, batch: dict[str, Tensor], hidden: Tensor) -> Tensor:
        return F.normalize(self.image_projection(masked_mean(hidden, batch["region_mask"])), dim=-1)

    def similarity(self, texts: Tensor, images: Tensor) -> Tensor:
        """Scaled cosines [N,M] of vectors [N,H] and [M,H]."""
        return self.log_scale.clamp(max=MAX_LOG_SCALE).exp() * texts @ images.T


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked positions: [B,L,H] and mask [..,L] -> [B,H]; 0 where all are masked."""
    weights = mask.flatten(0, -2)[..., None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> DualConfig:
    return DualConfig(
        vocab_size=vocab_size, max_position_embeddings=options.max_text_tokens, visual_feat_dim=region_dim,
        hidden_size=options.hidden_size, num_hidden_layers=options.layers, region_layers=options.region_layers,
        num_attention_heads=options.heads, intermediate_size=options.intermediate_size,
        initializer_range=options.initializer_range, hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.attention_dropout,
    )  # fmt: skip


def head_config(head: Head) -> dict[str, Any]:
    """Retrieval's two labels; the similarity needs no further weights."""
    return {"num_labels": head.labels}


SPEC = ModelSpec(
    name="dual",
    input="regions",
    heads=frozenset({"retrieval"}),
    new_config=new_config,
    head_config=head_config,
    capabilities=frozenset({"arbitrary_pairs", "text_tower"}),
    dual_encoder=True,
)
AutoConfig.register(DualConfig.model_type, DualConfig)
AutoModel.register(DualConfig, Dual)
