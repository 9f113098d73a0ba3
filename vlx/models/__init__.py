"""The systems. Importing this registers each with transformers, so that AutoModel.from_pretrained(folder) works."""

import copy
from types import ModuleType
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from vlx.models import clip_vil, dual, lxmert, oscar, vilbert, vle
from vlx.models.heads import Head, Sizes

# Those that read regions. Each has configure(head, sizes), the configuration of a new model, and with_head(head).
SYSTEMS: dict[str, ModuleType] = {"oscar": oscar, "lxmert": lxmert, "vilbert": vilbert}
TOWERS: dict[str, ModuleType] = {"dual": dual}  # the same, for retrieval alone: each side is read by itself
PIXELS: dict[str, ModuleType] = {"clip_vil": clip_vil, "vle": vle}  # those that read pictures
HEADS = {"oscar": "classifier.", "lxmert": "logit_fc.", "vilbert": "answer."}  # what the head's weights begin with

__all__ = ["PIXELS", "SYSTEMS", "TOWERS", "Head", "Sizes", "build", "with_new_head"]


def build(system: str, head: Head, sizes: Sizes, *, seed: int) -> PreTrainedModel:
    """A new model with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config((SYSTEMS | TOWERS)[system].configure(head, sizes))


def with_new_head(model: PreTrainedModel, system: str, head: Head, *, seed: int, **options: Any) -> PreTrainedModel:
    """The same model with another head, drawn from `seed`. `options`: of the configuration, what else the head is."""
    config = copy.deepcopy(model.config)
    for name, value in (SYSTEMS[system].with_head(head) | options).items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = AutoModel.from_config(config)
    kept = {name: weight for name, weight in model.state_dict().items() if name in fresh.state_dict()}
    kept = {name: weight for name, weight in kept.items() if not name.startswith(HEADS[system])}
    drawn = set(fresh.load_state_dict(kept, strict=False).missing_keys)
    if any(not name.startswith(HEADS[system]) for name in drawn):
        raise RuntimeError(f"{system}: {sorted(drawn)} are not the head's.")
    return fresh
