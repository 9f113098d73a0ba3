"""A stage of pre-training as an objective: of any of a system's losses, with their accuracies."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vlx.objectives.pretraining import lxmert_losses
from vlx.objectives.supervised import Batch, Losses, Objective
from vlx.objectives.vilbert import pretraining_losses


class System(NamedTuple):
    """losses(scores by head, batch, options) -> by the name that its function gives each."""

    heads: dict[str, str]  # of the model, by objective
    names: dict[str, str]  # of the losses, by objective, where they are named otherwise
    losses: Callable[..., dict[str, Tensor]]


LXMERT = ("words", "matched", "objects", "attributes", "features", "answers")
VILBERT = {"words": "words", "regions": "region_targets", "matched": "aligned"}
SYSTEMS = {
    "lxmert": System({name: name for name in LXMERT}, {}, lxmert_losses),
    "vilbert": System(VILBERT, {"matched": "aligned"}, pretraining_losses),
    "clip_vil": System({name: name for name in ("words", "matched", "answers")}, {}, lxmert_losses),
    "oscar": System({"words": "words", "matched": "matched"}, {}, lxmert_losses),
}


def pretraining(
    system: str, names: Sequence[str], *, weights: Mapping[str, float],
    visual_loss_mask: str = "confidence", visual_target: int = 0,
) -> Objective:  # fmt: skip
    """The weighted sum of the losses `names`; a batch as those ask it (pretraining.lxmert_losses, vilbert.
    pretraining_losses) with word_places [K], the labelled of the words.

    parts: NAME and NAME_accuracy, of how many words, regions or examples: counts.
    """
    made = SYSTEMS[system]
    heads = [made.heads[name] for name in names]
    options: dict[str, dict[str, Any]] = {"lxmert": {"visual_loss_mask": visual_loss_mask}}
    options |= {"vilbert": {"visual_target": visual_target}}
    losses_of = partial(made.losses, **options.get(system, {}))

    def objective(model: nn.Module, batch: Batch) -> Losses:
        scores = model(batch, heads=heads).scores
        asked = batch | {"word_labels": batch["word_labels"].flatten()[batch["word_places"]]}
        if "regions" in names and visual_target == 0:
            asked["region_labels"] = batch["region_targets"].argmax(-1)
        found = losses_of(scores, asked)
        losses = {name: found[made.names.get(name, name)] for name in names}
        total = torch.stack([loss * weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        parts, counts = {name: loss.detach() for name, loss in losses.items()}, numbers(asked)
        for name, head in zip(names, heads, strict=True):
            told = scores[head].flip(-1) if head == "aligned" else scores[head]  # its class 0 is a pair
            if (right := hits(name, told, asked)) is not None:
                counts[f"{name}_accuracy"] = torch.tensor(right.numel(), device=right.device)
                parts[f"{name}_accuracy"] = right.float().sum() / max(right.numel(), 1)
        return Losses(total, parts, {name: counts[name] for name in parts})

    return objective


def numbers(batch: Batch) -> dict[str, Tensor]:
    """Of how many each loss is the mean."""
    found = {"words": (batch["word_labels"] >= 0).sum(), "matched": (batch["matched_labels"] >= 0).sum()}
    if "answer_labels" in batch:
        found["answers"] = (batch["answer_labels"] >= 0).sum()
    if "region_mask" in batch:
        found |= dict.fromkeys(("objects", "attributes", "features"), batch["region_mask"].sum())
    return found | ({"regions": batch["masked_regions"].sum()} if "masked_regions" in batch else {})


@torch.no_grad()
def hits(name: str, scores: Tensor, batch: Batch) -> Tensor | None:
    """Whether each guess is right; of regions, of those alone that are hidden. None: there is no right class."""
    labels = batch.get(f"{name.removesuffix('s')}_labels")
    if labels is None:
        return None
    asked = labels >= 0
    if name in ("objects", "attributes", "regions"):
        asked = asked & batch["masked_regions"] & batch["region_mask"]
    return scores[asked].argmax(-1) == labels[asked]
