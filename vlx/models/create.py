"""New models, and the same model with another head. New weights are drawn from a seed."""

import copy
from typing import Any, cast

import torch
from transformers import AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head, PretrainingSizes
from vlx.models.spec import ModelSpec


def new_model(
    spec: ModelSpec, head: Head, options: Any, *, vocab_size: int, region_dim: int, seed: int
) -> PreTrainedModel:
    """A model of the sizes in `options` (ModelFields, PixelFields)."""
    return initialized(AutoModel, new_config(spec, head, options, vocab_size, region_dim), seed)


def new_config(spec: ModelSpec, head: Head, options: Any, vocab_size: int, region_dim: int) -> PretrainedConfig:
    if spec.new_config is None or spec.head_config is None:
        raise RuntimeError(f"{spec.name} builds no new models.")
    config = spec.new_config(options, vocab_size=vocab_size, region_dim=region_dim)
    return updated(config, spec.head_config(head))


def updated(config: PretrainedConfig, entries: dict[str, Any]) -> PretrainedConfig:
    """A copy of the configuration with other entries."""
    config = copy.deepcopy(config)
    for name, value in entries.items():
        setattr(config, name, value)
    return config


def initialized(auto: type, config: PretrainedConfig, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(PreTrainedModel, auto.from_config(config))  # type: ignore[attr-defined]


def for_pretraining(
    spec: ModelSpec, sizes: PretrainingSizes, start: PreTrainedModel, *, seed: int, **entries: Any
) -> PreTrainedModel:
    """A model with the heads of pre-training and all weights of `start` that fit; the rest is drawn from `seed`.
    entries: of the configuration, what else this stage sets."""
    if spec.pretraining_config is None:
        raise RuntimeError(f"{spec.name} has no pre-training.")
    config = updated(start.config, spec.pretraining_config(sizes) | entries)
    model = initialized(AutoModelForPreTraining, config, seed)
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    weights = {name: weight for name, weight in start.state_dict().items() if shapes.get(name) == weight.shape}
    missing = [name for name in shapes if name.startswith("bert.") and name not in weights]
    if missing:
        raise RuntimeError(f"{spec.name}: {missing} are not in the model to start from.")
    model.load_state_dict(weights, strict=False)
    return model


def with_new_head(spec: ModelSpec, model: PreTrainedModel, head: Head, *, seed: int, **entries: Any) -> PreTrainedModel:
    """The same model with another head, drawn from `seed`. entries: of the configuration, what else the head is."""
    if spec.head_config is None:
        raise RuntimeError(f"{spec.name} takes no other head.")
    fresh = initialized(AutoModel, updated(model.config, spec.head_config(head) | entries), seed)
    names = fresh.state_dict().keys()
    weights = model.state_dict().items()
    trunk = {name: weight for name, weight in weights if name in names and not spec.is_head(name)}
    missing = fresh.load_state_dict(trunk, strict=False).missing_keys
    foreign = sorted(name for name in missing if not spec.is_head(name))
    if foreign:
        raise RuntimeError(f"{spec.name}: {foreign} are not the head's.")
    return fresh
