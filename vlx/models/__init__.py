"""The systems. Importing this registers each with transformers, so that AutoModel.from_pretrained(folder) works."""

import torch
from transformers import AutoModel, PreTrainedModel

from vlx.models import oscar, vilbert
from vlx.models.heads import Head, Sizes

# system -> configure(head, sizes): the configuration of a new model
SYSTEMS = {"oscar": oscar.configure, "vilbert": vilbert.configure}

__all__ = ["SYSTEMS", "Head", "Sizes", "build"]


def build(system: str, head: Head, sizes: Sizes, *, seed: int) -> PreTrainedModel:
    """A new model with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(SYSTEMS[system](head, sizes))
