"""Small models of every architecture that builds new ones, and batches for those that read regions."""

import dataclasses

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlx.config import FinetuneConfig
from vlx.models.create import for_pretraining, new_model
from vlx.models.heads import Head, PretrainingSizes
from vlx.models.spec import all_specs, load_spec

BUILDABLE = [spec.name for spec in all_specs() if spec.new_config]
CROSS_ENCODERS = [name for name in BUILDABLE if not load_spec(name).dual_encoder]
REGION_ENCODERS = [name for name in CROSS_ENCODERS if load_spec(name).input == "regions"]
PAIR = Head("classify", 2)
OPTIONS = FinetuneConfig(
    max_text_tokens=12, hidden_size=16, layers=3, region_layers=1, cross_layers=2, heads=2, intermediate_size=24,
    dropout=0.1, attention_dropout=0.1, classifier="mlp", vision_width=2,
)  # fmt: skip
VOCAB_SIZE = 40
REGION_DIM = 6


def build(name: str, head: Head = PAIR, *, seed: int = 0, **options: int) -> PreTrainedModel:
    """A model of OPTIONS, with some of them changed."""
    cfg = dataclasses.replace(OPTIONS, **options)
    return new_model(load_spec(name), head, cfg, vocab_size=VOCAB_SIZE, region_dim=REGION_DIM, seed=seed)


def build_pretraining(name: str, sizes: PretrainingSizes, *, seed: int = 0, **options: float) -> PreTrainedModel:
    """A model with the heads of pre-training."""
    spec = load_spec(name)
    return for_pretraining(spec, sizes, build(name, seed=seed, **options), seed=seed)


def batch_of(examples: int, pairs: int) -> dict[str, Tensor]:
    """`pairs` pairs of a text and an image in each example, without padding."""
    generator = torch.Generator().manual_seed(0)
    shape = (examples, pairs)
    tokens, regions = 7, 5
    return {
        "input_ids": torch.randint(1, VOCAB_SIZE, (*shape, tokens), generator=generator),
        "text_mask": torch.ones(*shape, tokens, dtype=torch.bool),
        "regions": torch.rand(*shape, regions, REGION_DIM, generator=generator),
        "boxes": torch.rand(*shape, regions, 4, generator=generator).sort(-1).values,
        "region_mask": torch.ones(*shape, regions, dtype=torch.bool),
    }
