"""A deep averaging network (Iyyer et al. 2015) over the tokens of a text and the regions of an image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head
from vlx.models.layers import Output
from vlx.models.spec import ModelSpec


class ToyConfig(PretrainedConfig):
    model_type = "vlx-toy"

    vocab_size: int = 100
    region_dim: int = 8
    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_images: int = 1
    num_labels: int = 2


class Layer(nn.Module):
    """x + gelu(dense(x)): [...,H] -> [...,H]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + F.gelu(self.dense(hidden))


class Encoder(nn.Module):
    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config.hidden_size) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden)
        return hidden


class Toy(PreTrainedModel):
    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.regions = nn.Linear(config.region_dim + 4, config.hidden_size)
        self.encoder = Encoder(config)
        self.classifier = nn.Linear(config.num_images * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, batch: dict[str, Tensor]) -> Output:
        """batch: input_ids and text_mask [B,N,T]; regions [B,N,R,D], boxes [B,N,R,4] and region_mask [B,N,R]."""
        text = self.words(batch["input_ids"])
        regions = self.regions(torch.cat([batch["regions"], batch["boxes"]], -1))
        pooled = masked_mean(text, batch["text_mask"]) * masked_mean(regions, batch["region_mask"])
        pooled = self.encoder(pooled)
        logits = self.classifier(pooled.flatten(1))  # [B,N,H] -> [B,N*H]
        return Output(logits, pooled.flatten(0, 1), text.flatten(0, 1), regions.flatten(0, 1))


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked positions: [...,L,H] and mask [...,L] -> [...,H]."""
    weights = mask[..., None]
    return (hidden * weights).sum(-2) / weights.sum(-2)


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> ToyConfig:
    return ToyConfig(
        vocab_size=vocab_size,
        region_dim=region_dim,
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
    )


def head_config(head: Head) -> dict[str, Any]:
    return {"num_images": head.images, "num_labels": head.labels}


SPEC = ModelSpec(
    name="toy",
    input="regions",
    heads=frozenset({"classify"}),
    max_images=3,
    new_config=new_config,
    head_config=head_config,
    head_prefix="classifier.",
    capabilities=frozenset({"arbitrary_pairs"}),
)
AutoConfig.register(ToyConfig.model_type, ToyConfig)
AutoModel.register(ToyConfig, Toy)
