"""The systems. Importing this registers each with transformers, so that AutoModel.from_pretrained(folder) works."""

import copy
from types import ModuleType
from typing import Any, cast

import torch
from transformers import AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.models import clip_vil, dual, lxmert, oscar, vilbert, vle
from vlx.models.heads import Head, Sizes, Targets

# Those that read regions. Each has configure(head, sizes), the configuration of a new model, and with_head(head).
SYSTEMS: dict[str, ModuleType] = {"oscar": oscar, "lxmert": lxmert, "vilbert": vilbert}
TOWERS: dict[str, ModuleType] = {"dual": dual}  # the same, for retrieval alone: each side is read by itself
PIXELS: dict[str, ModuleType] = {"clip_vil": clip_vil, "vle": vle}  # those that read pictures
EVERY = SYSTEMS | TOWERS | PIXELS
HEADS = {  # what the head's weights begin with
    "oscar": "classifier.", "lxmert": "logit_fc.", "vilbert": "answer.", "clip_vil": "answer_head.",
}  # fmt: skip

__all__ = ["PIXELS", "SYSTEMS", "TOWERS", "Head", "Sizes", "Targets", "build", "for_pretraining", "with_new_head"]


def build(system: str, head: Head, sizes: Sizes, *, seed: int) -> PreTrainedModel:
    """A new model with weights drawn from `seed`."""
    return drawn(AutoModel, EVERY[system].configure(head, sizes), seed)


def drawn(auto: type, config: PretrainedConfig, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(PreTrainedModel, auto.from_config(config))  # type: ignore[attr-defined]


def for_pretraining(
    system: str, targets: Targets, start: Sizes | PreTrainedModel, *, seed: int, **options: Any
) -> PreTrainedModel:
    """A model with the heads of pre-training: new of these sizes, or with all of another model's weights that fit;
    the rest is drawn from `seed`. `options`: of the configuration, what else this stage sets."""
    model = start if isinstance(start, PreTrainedModel) else build(system, Head("classify", 2), start, seed=seed)
    config = copy.deepcopy(model.config)
    for name, value in (EVERY[system].with_targets(targets) | options).items():
        setattr(config, name, value)
    fresh = drawn(AutoModelForPreTraining, config, seed)
    shapes = {name: weight.shape for name, weight in fresh.state_dict().items()}
    kept = {name: weight for name, weight in model.state_dict().items() if shapes.get(name) == weight.shape}
    lost = [name for name in shapes if name.startswith("bert.") and name not in kept]
    if lost:
        raise RuntimeError(f"{system}: {lost} are not in the model to start from.")
    fresh.load_state_dict(kept, strict=False)
    return fresh


def with_new_head(model: PreTrainedModel, system: str, head: Head, *, seed: int, **options: Any) -> PreTrainedModel:
    """The same model with another head, drawn from `seed`. `options`: of the configuration, what else the head is."""
    config = copy.deepcopy(model.config)
    for name, value in (EVERY[system].with_head(head) | options).items():
        setattr(config, name, value)
    fresh = drawn(AutoModel, config, seed)
    kept = {name: weight for name, weight in model.state_dict().items() if name in fresh.state_dict()}
    kept = {name: weight for name, weight in kept.items() if not name.startswith(HEADS[system])}
    missing = set(fresh.load_state_dict(kept, strict=False).missing_keys)
    if any(not name.startswith(HEADS[system]) for name in missing):
        raise RuntimeError(f"{system}: {sorted(missing)} are not the head's.")
    return fresh
