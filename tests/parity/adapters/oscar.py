"""oscar/*: Oscar and VinVL models."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx.checkpoints.originals.oscar import read_config
from vlx.checkpoints.report import load_weights
from vlx.models.oscar import Oscar
from vlx.objectives import cross_entropy, soft_target_bce

LOSSES = {"ce": cross_entropy, "bce": soft_target_bce}


def oscar(config: Path, weights: Path) -> Oscar:
    model = Oscar(read_config(config))
    report = load_weights(model, load_file(weights), source=weights.name)
    assert report.share == 1.0 and not report.missing and not report.unexpected
    return model


def batch_of(inputs: dict[str, Tensor], loss_type: str) -> dict[str, Tensor]:
    """The original's inputs in vlx's names: its mask is text, then regions; its features end in six box terms."""
    tokens = inputs["input_ids"].shape[-1]
    mask = inputs["attention_mask"].bool()
    features = inputs["img_feats"]
    target = {"labels": inputs["labels"].view(-1)} if loss_type == "ce" else {"targets": inputs["labels"]}
    return target | {
        "input_ids": inputs["input_ids"],
        "token_type_ids": inputs["token_type_ids"],
        "text_mask": mask[..., :tokens],
        "region_mask": mask[..., tokens:],
        "regions": features[..., :-6],
        "boxes": features[..., -6:-2],
    }


def check(case: Path) -> None:
    """Outputs, both unimodal logits, loss and every gradient."""
    loss_type = json.loads((case / "config.json").read_text())["loss_type"]
    model = oscar(case / "config.json", case / "weights.safetensors").eval()
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    batch = batch_of(inputs, loss_type)
    output = model(batch, output_hidden_states=True, output_attentions=True)
    close(output.logits, expected["logits"], "logits")
    close(output.pooled, expected["pooled_output"], "pooled")
    close(torch.cat([output.text_hidden, output.region_hidden], 1), expected["sequence_output"], "sequence output")
    close(torch.stack(output.hidden_states), expected["hidden_states"], "hidden states")
    close(torch.stack(output.attentions), expected["attentions"], "attentions")
    for name, hidden in (("logits_txt", "region_mask"), ("logits_img", "text_mask")):
        close(model(batch | {hidden: torch.zeros_like(batch[hidden])}).logits, expected[name], name)
    loss = LOSSES[loss_type](output.logits, batch)
    close(loss, expected["loss"], "loss")
    loss.backward()
    weights = dict(model.named_parameters())
    for name, gradient in load_file(case / "grads.safetensors").items():
        close(weights[name].grad, gradient, f"gradient of {name}")
