"""vle/*: VLE's models, its position embeddings and its checkpoints."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.test_vle import config
from tests.parity.adapters.numbers import close
from vlx.checkpoints.originals.vle import export_original, load_vle, merge_zero
from vlx.checkpoints.report import LoadReport
from vlx.errors import CheckpointError
from vlx.models.vle import HEADS, Vle, resize_positions
from vlx.objectives import cross_entropy, soft_target_bce

ATOL = 2e-5  # of the cases' READMEs
Batch = dict[str, Tensor]


def vle(case: Path) -> Vle:
    """The case's model; a trunk alone gets a new head. The export has the same bits as the file."""
    weights = load_file(case / "weights.safetensors")
    bare = not any(name.startswith("vle.") for name in weights)
    options: dict[str, Any] = {"heads": ("itm",), "new_head": True} if bare else {}
    model, report = load_vle(case / "weights.safetensors", **options)
    assert bare or report.share == 1.0 and not report.missing
    exported = export_original(model)
    for name, tensor in weights.items():
        assert torch.equal(exported.pop(f"vle.{name}" if bare else name), tensor), name
    assert bare or not exported
    return model.eval()


def batch_of(inputs: Batch) -> Batch:
    """The original's inputs in vlx's names: choices [4,B,T] -> [B,4,T]."""
    names = {"input_ids": "input_ids", "token_type_ids": "token_type_ids", "attention_mask": "text_mask"}
    batch = {name: inputs[original] for original, name in names.items()}
    if batch["input_ids"].dim() == 3:
        batch = {name: ids.transpose(0, 1) for name, ids in batch.items()}
    batch["pixels"] = inputs["pixel_values"]
    return batch | {"text_mask": batch["text_mask"].bool()}


def boxes_of(aux: dict[str, Any], batch: Batch, patches: int) -> Batch:
    """The case's lists, [choice][example], as tensors, [example, choice]."""
    size, choices, tokens = batch["input_ids"].shape
    width = max(len(boxes) for choice in aux["patch_ids"] for boxes in choice)
    masks = torch.zeros(size, choices, width, patches, dtype=torch.bool)
    types = torch.zeros(size, choices, width).long()
    text_types = torch.zeros(size, choices, tokens).long()
    for choice, examples in enumerate(aux["patch_ids"]):
        boxes, texts = aux["extend_token_type_ids"][choice]
        for example, patch_ids in enumerate(examples):
            for box, ids in enumerate(patch_ids):
                masks[example, choice, box, ids] = True
            types[example, choice, : len(patch_ids)] = torch.tensor(boxes[example])
            text_types[example, choice, : len(texts[example])] = torch.tensor(texts[example])
    return {"box_patches": masks, "box_types": types, "text_types": text_types}


def check(case: Path) -> None:
    checks = {
        "pos_resize": check_resize,
        "checkpoint_convert": check_convert,
        "zero2": check_zero,
        "model": check_trunk,
    }
    checks.get(case.name, check_head)(case)


def check_trunk(case: Path) -> None:
    """Every intermediate state of encoders, projections and fusion."""
    model = vle(case)
    expected = load_file(case / "expected.safetensors")
    batch = batch_of(load_file(case / "inputs.safetensors"))
    output = model(batch, output_hidden_states=True)
    trunk = model.vle
    real = batch["text_mask"]
    tokens = batch["input_ids"].shape[1]
    image = trunk.image_states(batch["pixels"])
    text = trunk.text_states(batch)
    encoded = trunk.vision_model["vision_model"](pixel_values=batch["pixels"]).last_hidden_state
    images = {"vision_last_hidden_state": encoded, "vision_post_layernorm_full": image, "feat_image": image}
    images |= {"image_projected": trunk.image_projection_layer(image), "image_embeds": output.region_hidden}
    texts = {"text_last_hidden_state": text, "feat_text": text, "text_projected": trunk.text_projection_layer(text)}
    texts["text_embeds"] = output.text_hidden
    for layer, states in enumerate(output.hidden_states[1:]):
        texts[f"cross_text_layer_{layer}"], images[f"cross_image_layer_{layer}"] = states.tensor_split([tokens], 1)
    images |= dict(zip(("text_pooler", "image_pooler"), output.pooled.chunk(2, -1), strict=True))
    images["pooler_output"] = output.pooled
    assert images.keys() | texts.keys() == expected.keys()
    for name, states in images.items():
        close(states, expected[name], name, atol=ATOL)
    for name, states in texts.items():  # padding differs between versions of transformers
        close(states[real], expected[name][real], name, atol=ATOL)


def check_head(case: Path) -> None:
    """A head's scores and its loss."""
    model = vle(case)
    expected = load_file(case / "expected.safetensors")
    inputs = load_file(case / "inputs.safetensors")
    batch = batch_of(inputs)
    labels = {path.name: json.loads(path.read_text()) for path in case.glob("*.json")}
    if "aux.json" in labels:
        vision = model.config.vision_config
        batch |= boxes_of(labels["aux.json"], batch, (vision.image_size // vision.patch_size) ** 2)
    output = model(batch, output_hidden_states=True)
    real = batch["text_mask"] if case.name == "mlm" else ...
    close(output.logits[real], expected["logits"][real], "logits", atol=ATOL)
    if case.name == "vqa":
        check_answers(output.logits, labels["labels.json"], expected)
    elif case.name == "mlm":
        ids = inputs["mlm_labels"].flatten()
        loss = cross_entropy(output.logits.flatten(0, 1), {"labels": ids.where(ids >= 0, -1)})
        close(loss, expected["loss"].view(()), "loss", atol=ATOL)
    elif case.name != "pbc":  # its loss was never used
        names = {"itm": ("labels.json", "itm_labels")}
        file, key = names.get(case.name, ("aux.json", "vcr_labels"))
        loss = cross_entropy(output.logits, {"labels": torch.tensor(labels[file][key])})
        close(loss, expected["loss"].view(()), "loss", atol=ATOL)
    if "last_choice_cross_text_layer_0" in expected:
        check_last_choice(batch, output.hidden_states[1], expected)


def check_answers(logits: Tensor, labels: dict[str, Any], expected: Batch) -> None:
    """Soft targets, the loss, and the answers in the order of the original's pipeline."""
    targets = torch.zeros_like(logits)
    for row, (answers, scores) in enumerate(zip(labels["vqa_labels"], labels["vqa_scores"], strict=True)):
        targets[row, answers] = torch.tensor(scores)
    close(targets, expected["targets"], "targets")
    close(soft_target_bce(logits, {"targets": targets}), expected["loss"].view(()), "loss", atol=ATOL)
    best, order = logits.softmax(-1).sort(descending=True)
    close(best, expected["probs_top"], "probabilities", atol=ATOL)
    assert torch.equal(order, expected["preds_sorted"])


def check_last_choice(batch: Batch, states: Tensor, expected: Batch) -> None:
    """The first fusion layer's states of the last choice; those of padding boxes too."""
    size, choices, tokens = batch["input_ids"].shape
    last = states.unflatten(0, (size, choices))[:, -1]
    real = batch["text_mask"][:, -1]
    text, image = last.tensor_split([tokens], 1)
    close(text[real], expected["last_choice_cross_text_layer_0"][real], "text of layer 0", atol=ATOL)
    states = expected["last_choice_cross_image_layer_0"]
    close(image[:, : states.shape[1]], states, "image of layer 0", atol=ATOL)


def check_resize(case: Path) -> None:
    before = load_file(case / "inputs.safetensors")
    expected = load_file(case / "expected.safetensors")
    after = expected["position_embedding_after"]
    grid = round((len(after) - 1) ** 0.5)
    close(resize_positions(before["position_embedding_before"], grid), after, "position embeddings")


def check_convert(case: Path) -> None:
    """Keys with Lightning's and DeepSpeed's prefixes, for a model of as many layers; one of neither is refused."""
    renamed = json.loads((case / "expected.json").read_text())
    deepspeed = next(names for title, names in renamed.items() if "module.model." in title)
    lightning = next(names for title, names in renamed.items() if "(prefix model.)" in title)
    right = {new for new in deepspeed.values() if new}
    model = small(right)
    weights = export_original(model)
    assert weights.keys() == right
    for prefix, names in (("model.", lightning), ("module.model.", deepspeed)):
        states = {name: weights[name.removeprefix(prefix)] for name in names if name.startswith(prefix)}
        assert len(states) == len(right)
        loaded, report = load(states, model)
        exported = export_original(loaded)
        assert report.share == 1.0 and all(torch.equal(tensor, exported[name]) for name, tensor in weights.items())
    for stray in [name for name, new in deepspeed.items() if not new]:
        with pytest.raises(CheckpointError, match=f"first key at fault: {stray}"):
            load(states | {stray: torch.zeros(1)}, model)


def small(names: set[str]) -> Vle:
    """A model that has the layers and heads of these names."""

    def layers(stack: str) -> dict[str, int]:
        numbers = {match[1] for name in names if (match := re.match(rf"{stack}\.(\d+)\.", name))}
        return {"num_hidden_layers": len(numbers)}

    heads = [head for head, module in HEADS.items() if any(name.startswith(f"{module}.") for name in names)]
    sizes = config(heads=heads, **layers("vle.cross_modal_text_layers"))
    sizes.text_config.update(layers("vle.text_model.encoder.layer"))
    sizes.vision_config.update(layers("vle.vision_model.vision_model.encoder.layers"))
    return Vle(sizes)


def load(states: Batch, model: Vle) -> tuple[Vle, LoadReport]:
    with TemporaryDirectory() as folder:
        torch.save({"state_dict": states}, Path(folder) / "last.ckpt")
        model.config.to_json_file(Path(folder) / "config.json")
        return load_vle(Path(folder) / "last.ckpt")


def check_zero(case: Path) -> None:
    merged = merge_zero(case / "ckpt")
    expected = load_file(case / "expected.safetensors")
    assert merged.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(merged[name], tensor), name
