"""clip_vil/*: the network of the grid, both stages of pre-training, VQA. All inputs are normalised pixels."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx.checkpoints.originals.clip_vil import export_original, load_clip_vil
from vlx.checkpoints.report import load_weights
from vlx.models.clip_resnet import STRIDE, ClipResNet, tokens
from vlx.models.clip_vil import ClipVil
from vlx.models.student import set_dropout
from vlx.objectives import soft_target_bce
from vlx.objectives.pretraining import PretrainingSettings, pretraining_losses
from vlx.tokenization import WordPiece

Batch = dict[str, Tensor]
HEADS = {"mlm": "mlm", "itm": "matched", "qa": "qa"}  # vlx's names of the losses -> the original's
ATOL = 2e-5  # of the cases' README


def check(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    kinds = {"ModifiedResNet": check_grid, "LXRTPretraining": check_pretraining, "VQAModel": check_vqa}
    kinds[config["kind"]](case / "weights.safetensors", config, inputs, expected)
    assert not expected, f"not compared: {sorted(expected)}"


def same(expected: Batch, name: str, actual: Tensor, rtol: float = 1e-4) -> None:
    """Compare with the original's number and remove it from `expected`."""
    number = expected.pop(name)
    close(actual.view(number.shape) if number.numel() == 1 else actual, number, name, atol=ATOL, rtol=rtol)


def check_grid(weights: Path, config: dict[str, Any], inputs: Batch, expected: Batch) -> None:
    """Every stage in eval mode, the pooled vector, gradients, and the statistics of one batch in train mode."""
    sizes = {"embed_dim": config["output_dim"], "places": (config["input_resolution"] // STRIDE) ** 2 + 1}
    model = ClipResNet(tuple(config["layers"]), config["width"], **sizes).eval()
    assert load_weights(model, load_file(weights), source=str(weights)).share == 1.0
    for name in sorted({name.partition(".")[0] for name in expected if name.startswith("image_")}):
        image = inputs[name].requires_grad_()
        maps = model.stages(image)
        stages = {"stem": maps[0][:1], "grid": maps[-1], "tokens": tokens(maps[-1])}
        stages |= {f"layer{stage}": maps[stage][:1] for stage in range(1, len(maps))}
        for part in [key for key in expected if key.startswith(f"{name}.")]:
            same(expected, part, model.attnpool(maps[-1]) if part.endswith("attnpool") else stages[part.split(".")[1]])
    (model(inputs["image_0"]) * inputs["probe"]).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()} | {"image_0": inputs["image_0"].grad}
    for name in [key for key in expected if key.startswith("grad.")]:
        same(expected, name, gradients[name.removeprefix("grad.")][: len(expected[name])], rtol=1e-3)
    check_train_mode(model, inputs["image_0"], expected)


def check_train_mode(model: ClipResNet, image: Tensor, expected: Batch) -> None:
    same(expected, "train_bn.image_0.grid", model.train()(image))
    check_statistics(model, expected, "train_bn.after.")


def check_statistics(model: torch.nn.Module, expected: Batch, prefix: str) -> None:
    for name in [key for key in expected if key.startswith(prefix)]:
        same(expected, name, model.state_dict()[name.removeprefix(prefix)])


def clip_vil(weights: Path, config: dict[str, Any], **entries: Any) -> ClipVil:
    """The model of a case with all weights, which are exported unchanged."""
    options = {"num_attention_heads": config["num_attention_heads"], "layer_norm_eps": config.get("layer_norm_eps")}
    options |= {} if config["use_positional_embedding"] else {"pos_num": 0}
    options = {name: value for name, value in (options | entries).items() if value is not None}
    model, report = load_clip_vil(weights, unused_weights=True, **options)
    assert report.share == 1.0 and not report.missing
    assert all(name.startswith("bert.encoder.visual_pos.") for name in report.unexpected)
    tensors = load_file(weights)
    exported = export_original(model)
    assert exported.keys() == tensors.keys() - set(report.unexpected)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in exported.items())
    return model.eval()


def batch_of(inputs: Batch) -> Batch:
    """The original's inputs in vlx's names."""
    names = {"pixels": "visual_feats", "sampled_grid_features": "sub_indices", "mlm_labels": "masked_lm_labels"}
    names |= {"itm_labels": "matched_label", "qa_labels": "ans", "targets": "target"}
    names |= {name: name for name in ("input_ids", "token_type_ids")}
    batch = {name: inputs[old] for name, old in names.items() if old in inputs}
    images = {"pixels": inputs["image"]} if "image" in inputs else {}
    return batch | images | {"text_mask": inputs["attention_mask"].bool()}


def check_pretraining(weights: Path, config: dict[str, Any], inputs: Batch, expected: Batch) -> None:
    """All grid cells, a sample of them, cells without position embeddings, batch statistics; gradients of the first."""
    model = clip_vil(weights, config)
    batch = batch_of(inputs)
    sampled = batch.pop("sampled_grid_features", None)
    assert [HEADS[name] for name in model.config.heads] == config["loss_order"]
    check_pass(model, batch, expected, "full").backward()
    check_gradients(model, config, expected)
    with torch.no_grad():
        if sampled is not None:
            assert sampled.shape[1] == config["sub_feat_num"]
            check_pass(model, batch | {"sampled_grid_features": sampled}, expected, "sub")
        check_pass(clip_vil(weights, config, pos_num=0), batch, expected, "nopos")
        set_dropout(model, 0.0, 0.0)
        check_pass(model.train(), batch, expected, "trainbn")
        if expected:
            check_statistics(model, expected, "trainbn.after.")


def check_pass(model: ClipVil, batch: Batch, expected: Batch, prefix: str) -> Tensor:
    """Compare the scores and losses that the case has of one pass; returns the total loss."""
    output = model(batch, heads=model.config.heads)
    losses = pretraining_losses(output.scores, batch, PretrainingSettings())
    tensors = {"lang_feats": output.text_hidden, "visn_feats": output.region_hidden, "pooled": output.pooled}
    scores = {"mlm": "mlm_logits", "itm": "matched_logits", "qa": "answer_logits"}
    tensors |= {scores[name]: tensor for name, tensor in output.scores.items()}
    tensors |= {f"loss.{HEADS[name]}": loss for name, loss in losses.items()}
    total = torch.stack(list(losses.values())).sum()
    tensors["total_loss"] = total
    for name in tensors:
        if f"{prefix}.{name}" in expected:
            same(expected, f"{prefix}.{name}", tensors[name])
    return total


def check_gradients(model: ClipVil, config: dict[str, Any], expected: Batch) -> None:
    """The gradients of the case, the norms of all, and the weights without a gradient."""
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    unused = [name for name in config["parameters_without_gradient"] if name in gradients]
    assert sorted(name for name, grad in gradients.items() if grad is None) == unused
    grads = {name: grad for name, grad in gradients.items() if grad is not None}
    norms = {"global_norm": grads, "visual_norm": {name: grads[name] for name in grads if "visual_model" in name}}
    for name, chosen in norms.items():
        norm = torch.stack([grad.norm() for grad in chosen.values()]).norm()
        same(expected, f"grad.{name}", norm, rtol=1e-3)
    for name in [key for key in expected if key.startswith("grad.")]:
        same(expected, name, grads[name.removeprefix("grad.")], rtol=1e-3)


def check_first_head(weights: Path, config: dict[str, Any], inputs: Batch, expected: Batch) -> None:
    """VQA starts from a pre-trained file and copies the rows of the answers that both have."""
    prefix = "lxrt_encoder.model."
    file = {name.removeprefix(prefix): tensor for name, tensor in load_file(weights).items() if name.startswith(prefix)}
    file |= {name.removeprefix("pretrained."): inputs[name] for name in inputs if name.startswith("pretrained.")}
    answers = (config["pretrain_answers"], config["label2ans"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "Epoch11_LXRT.pth"
        torch.save({f"module.{name}": tensor for name, tensor in file.items()}, path)
        head = export_original(load_clip_vil(path, answers=answers)[0])
    for name in [name for name in expected if name.startswith("init.")]:
        same(expected, name, head[name.removeprefix("init.")])


@torch.no_grad()
def check_vqa(weights: Path, config: dict[str, Any], inputs: Batch, expected: Batch) -> None:
    """Tokens of questions, answers, losses; masked grid cells; the initial head of VQA."""
    check_first_head(weights, config, inputs, expected)
    model = clip_vil(weights, config)
    batch = batch_of(inputs)
    wordpiece = WordPiece({word: index for index, word in enumerate(config["vocab"])})
    ids = wordpiece.encode(config["questions"], limit=config["max_vqa_length"])
    assert [row + [0] * (config["max_vqa_length"] - len(row)) for row in ids] == batch["input_ids"].tolist()
    output = model(batch)
    bce = soft_target_bce(output.logits, batch)
    scales = {name: re.fullmatch(r"loss\.loss_scale_(\d+)", name) for name in expected}
    losses = {name: bce / config["num_answers"] * int(match[1]) for name, match in scales.items() if match}
    losses |= {"loss.default": bce, "loss.bce_mean": bce / config["num_answers"]}
    tensors = {"logits": output.logits, "pooled": output.pooled, "prediction": output.logits.argmax(1)} | losses
    masked = model(batch | {"grid_mask": inputs["visual_attention_mask"].bool()})
    tensors |= {"masked.logits": masked.logits, "masked.pooled": masked.pooled}
    for name, tensor in tensors.items():
        same(expected, name, tensor)
