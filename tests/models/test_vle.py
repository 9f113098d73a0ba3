"""Two encoders and their fusion: results depend neither on padding nor on other rows nor on repeated images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from vlx.errors import ConfigError
from vlx.models.student import set_dropout
from vlx.models.vle import DEBERTA_V3_BASE, HEADS, Vle, VleConfig, resize_positions

Batch = dict[str, Tensor]
PATCHES = 9
POOLED = ("vqa", "itm", "vcr_q2a", "vcr_qa2r")  # heads that read the pooled vectors


def config(**options: object) -> VleConfig:
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    text = DEBERTA_V3_BASE | layers | {"vocab_size": 50, "hidden_size": 24, "position_buckets": 4}
    text |= {"max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | options
    sizes = layers | {
        "hidden_size": 16,
        "num_token_types": 5,
        "num_labels": 7,
        "heads": list(HEADS),
        "text_config": text,
    }
    sizes |= {"vision_config": layers | {"hidden_size": 20, "image_size": 24, "patch_size": 8}}
    return VleConfig(**(sizes | options))


def build(**options: object) -> Vle:
    torch.manual_seed(0)
    model = Vle(config(**options)).eval()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            norm = isinstance(module, torch.nn.LayerNorm) and weight is module.weight
            torch.nn.init.normal_(weight, mean=float(norm), std=0.3)
    return model


@pytest.fixture(scope="module")
def model() -> Vle:
    return build()


def example(seed: int, tokens: int, *, texts: int = 0, boxes: int = 0) -> Batch:
    """An image with one text, or with `texts` of them; each text may be about boxes."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, texts) if texts else (1,)
    batch = {
        "pixels": torch.randn(1, 3, 24, 24, generator=generator),
        "input_ids": torch.randint(1, 50, (*shape, tokens), generator=generator),
        "text_mask": torch.ones(*shape, tokens, dtype=torch.bool),
    }
    if boxes:
        batch["box_patches"] = torch.rand(*shape, boxes, PATCHES, generator=generator) < 0.4
        batch["box_patches"][..., 4] = True
        batch["box_types"] = torch.randint(2, 5, (*shape, boxes), generator=generator)
        batch["text_types"] = torch.randint(0, 5, (*shape, tokens), generator=generator)
    return batch


def padded(batch: Batch, tokens: int, boxes: int) -> Batch:
    """The batch with more padding, of noise that the masks must hide."""
    text = tokens - batch["input_ids"].shape[-1]
    room = boxes - batch["box_types"].shape[-1]
    return batch | {
        "input_ids": F.pad(batch["input_ids"], (0, text), value=7),
        "text_mask": F.pad(batch["text_mask"], (0, text)),
        "text_types": F.pad(batch["text_types"], (0, text), value=3),
        "box_patches": F.pad(batch["box_patches"], (0, 0, 0, room)),
        "box_types": F.pad(batch["box_types"], (0, room), value=4),
    }


@pytest.mark.parametrize("texts", [0, 3])
def test_padding_and_other_rows_change_nothing(model: Vle, texts: int) -> None:
    first = example(1, 7, texts=texts, boxes=3)
    second = example(2, 12, texts=texts, boxes=2)
    alone = model(first, heads=tuple(HEADS)).scores
    wide = model(padded(first, 14, 6), heads=tuple(HEADS)).scores
    pair = [padded(batch, 12, 3) for batch in (first, second)]
    both = model({name: torch.cat([batch[name] for batch in pair]) for name in first}, heads=tuple(HEADS)).scores
    rows = max(texts, 1)
    for name in POOLED:
        torch.testing.assert_close(wide[name], alone[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(both[name][: len(alone[name])], alone[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both["mlm"][:rows, :7], alone["mlm"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(wide["mlm"][:, :7], alone["mlm"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(wide["pbc"][:, : PATCHES + 3], alone["pbc"], atol=1e-5, rtol=1e-5)


def test_texts_of_an_image_together_score_as_each_alone(model: Vle) -> None:
    batch = example(3, 6, texts=4, boxes=2)
    together = model(batch, heads=("vcr_q2a",))
    assert together.logits.shape == (1, 4) and together.pooled.shape == (4, 32)
    for text in range(4):
        alone = {name: value if name == "pixels" else value[:, text] for name, value in batch.items()}
        torch.testing.assert_close(model(alone, heads=("vcr_q2a",)).logits[:, 0], together.logits[:, text])


def test_the_image_is_encoded_once(model: Vle) -> None:
    shapes: list[torch.Size] = []
    hook = model.vle.vision_model["vision_model"].register_forward_hook(lambda _, __, out: shapes.append(out[0].shape))
    model(example(4, 5, texts=3))
    hook.remove()
    assert shapes == [(1, 1 + PATCHES, 20)]


def test_every_input_matters(model: Vle) -> None:
    batch = example(5, 6, texts=2, boxes=2)
    logits = model(batch, heads=POOLED).scores
    replacement = example(6, 6, texts=2, boxes=2)
    for name in batch.keys() - {"text_mask"}:
        changed = model(batch | {name: replacement[name]}, heads=POOLED).scores
        assert all(not torch.allclose(changed[head], logits[head], atol=1e-4) for head in POOLED), name


def test_a_box_is_the_mean_of_its_patches_and_a_box_without_patches_is_masked(model: Vle) -> None:
    batch = example(7, 6, boxes=3)
    batch["box_patches"][:] = torch.arange(PATCHES).view(1, 1, -1) < torch.tensor([2, 1, 0]).view(1, 3, 1)
    image, mask = model.vle.embed_image(batch, texts=1)
    patches = image[:, 1:3] - model.vle.token_type_embeddings.weight[1]
    boxes = image[:, 1 + PATCHES :] - model.vle.token_type_embeddings(batch["box_types"])
    torch.testing.assert_close(boxes[:, :2], torch.stack([patches.mean(1), patches[:, 0]], 1))
    assert mask.sum() == 1 + PATCHES + 2
    without = batch | {name: batch[name][:, :2] for name in ("box_patches", "box_types")}
    output = model(batch)
    assert output.logits.isfinite().all()
    torch.testing.assert_close(output.logits, model(without).logits)


def test_token_types_have_defaults(model: Vle) -> None:
    batch = example(8, 6, boxes=2)
    plain = {name: value for name, value in batch.items() if not name.endswith("_types")}
    types = {"text_types": torch.zeros(1, 6).long(), "box_types": torch.ones(1, 2).long()}
    assert torch.equal(model(plain).logits, model(plain | types).logits)


def test_a_masked_text_gives_finite_logits_and_gradients() -> None:
    model = build()
    batch = example(9, 4)
    logits = model(batch | {"text_mask": torch.zeros_like(batch["text_mask"])}).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_a_model_saved_loaded_and_saved_has_the_same_bits(model: Vle, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "first")
    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    loaded = AutoModel.from_pretrained(tmp_path / "second").eval()
    assert isinstance(loaded, Vle) and loaded.config.heads == list(HEADS)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    batch = example(10, 6)
    torch.testing.assert_close(model(batch).logits, loaded(batch).logits)  # mapped weights lie elsewhere in memory


def test_the_mlm_decoder_is_tied_to_the_word_embeddings() -> None:
    model = Vle(config())
    decoder = model.mlm_score[1].predictions
    assert decoder.decoder.weight is model.vle.text_model.embeddings.word_embeddings.weight
    assert decoder.decoder.bias is decoder.bias


def test_gradient_checkpointing_changes_no_gradient() -> None:
    def gradients_of(model: Vle) -> dict[str, Tensor]:
        scores = model(example(11, 6, texts=2, boxes=2), heads=tuple(HEADS)).scores
        torch.cat([score.flatten() for score in scores.values()]).square().sum().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        model.zero_grad()
        return gradients

    model = build().train()
    plain = gradients_of(model)
    model.activation_checkpointing_enable()
    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    assert len(layers) >= 8  # two of each encoder, two of each modality of the fusion
    saved = gradients_of(model)
    assert plain.keys() == saved.keys() and len(plain) > 150
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient, msg=name)


def test_dropout_is_set_everywhere() -> None:
    model = build()
    set_dropout(model, 0.5, 0.5)
    modules = {name.split(".")[1] for name, module in model.named_modules() if getattr(module, "p", 0) == 0.5}
    assert modules == {
        "text_model",
        "cross_modal_text_layers",
        "cross_modal_image_layers",
    }  # CLIP has only the dropout of its attention:
    attention = [module for name, module in model.named_modules() if vars(module).get("dropout") == 0.5]
    assert len(attention) == 2 + 8  # of the image encoder; of the fusion, self- and cross-attention
    batch = example(12, 6)
    assert not torch.equal(model.train()(batch).logits, model(batch).logits)


@pytest.mark.parametrize(("size", "total", "head"), [("base", 385.7, 7.17), ("large", 943.4, 10.6)])
def test_published_sizes(size: str, total: float, head: float) -> None:
    """Millions of parameters of the trunk and of the head of 3,129 answers (iFLYTEK 2023)."""
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    vision = large | {"patch_size": 14, "image_size": 384}
    options = {"text_config": DEBERTA_V3_BASE | large, "vision_config": vision} | large | {"num_hidden_layers": 6}
    with torch.device("meta"):
        model = Vle(VleConfig(num_labels=3129, **(options if size == "large" else {})))
    millions = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in (model.vle, model.vqa_classifier)]
    assert millions == [pytest.approx(total, abs=0.05), pytest.approx(head, abs=0.05)]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"heads": []}, "heads=: expected some of vqa, itm"),
        ({"heads": ["vqa", "nlvr"]}, "heads=vqa,nlvr: expected"),
        ({"hidden_act": "gellu"}, "hidden_act=gellu"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Vle(config(**options))


def test_inputs_that_do_not_match_are_refused(model: Vle) -> None:
    batch = example(13, 6, texts=2, boxes=2)
    with pytest.raises(ValueError, match=r"texts \(1, 2\), images \(1,\) and boxes \(1,\) do not match"):
        model(batch | {"box_patches": batch["box_patches"][:, 0]})
    with pytest.raises(ValueError, match="images"):
        model(batch | {"pixels": batch["pixels"].repeat(2, 1, 1, 1)})
    with pytest.raises(ValueError, match=r"16\*16.*24\*24"):
        model(batch | {"pixels": batch["pixels"][..., :16, :16]})


def test_positions_of_a_finer_grid() -> None:
    """Keys' cubic with a = -0.75, a quarter past column 2: -.10546875*1 + .87890625*2 + .26171875*3 - .03515625*4 =
    2.296875. The first row and a grid of the same size stay as they are."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    table = torch.cat([torch.full((1, 2), 9.0), torch.stack([rows, columns], -1).flatten(0, 1)])
    assert torch.equal(resize_positions(table, 6), table)
    doubled = resize_positions(table, 12)
    assert torch.equal(doubled[0], table[0])
    grid = doubled[1:].view(12, 12, 2)
    torch.testing.assert_close(grid[5, 5:7], torch.tensor([[2.296875, 2.296875], [2.296875, 5 - 2.296875]]))
