"""The single stream: results depend neither on padding nor on other rows nor on packing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from vlx.inputs.packing import joint_packing
from vlx.models.oscar import Oscar, OscarConfig


def config(**options: object) -> OscarConfig:
    sizes = {
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
        "img_feature_dim": 14, "max_position_embeddings": 40, "classifier": "mlp", "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return OscarConfig(**(sizes | options))


@pytest.fixture
def model() -> Oscar:
    torch.manual_seed(0)
    model = Oscar(config(num_choice=2)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def example(seed: int, tokens: int, regions: tuple[int, int]) -> dict[str, Tensor]:
    """One statement of two images, unpadded but for the smaller image."""
    generator = torch.Generator().manual_seed(seed)
    width = max(regions)
    corners = torch.rand(1, 2, width, 2, generator=generator) / 2
    return {
        "input_ids": torch.randint(1, 50, (1, 1, tokens), generator=generator).expand(1, 2, tokens),
        "text_mask": torch.ones(1, 2, tokens, dtype=torch.bool),
        "regions": torch.rand(1, 2, width, 8, generator=generator),
        "boxes": torch.cat([corners, corners + 0.3], -1),
        "region_mask": torch.arange(width) < torch.tensor(regions)[None, :, None],
    }


def padded(batch: dict[str, Tensor], tokens: int, regions: int) -> dict[str, Tensor]:
    """The batch with more padding, of noise that the masks must hide."""
    text = tokens - batch["input_ids"].shape[-1]
    room = regions - batch["regions"].shape[-2]
    fill = torch.nn.functional.pad
    return {
        "input_ids": fill(batch["input_ids"], (0, text), value=7),
        "text_mask": fill(batch["text_mask"], (0, text)),
        "regions": fill(batch["regions"], (0, 0, 0, room), value=3.0),
        "boxes": fill(batch["boxes"], (0, 0, 0, room), value=0.5),
        "region_mask": fill(batch["region_mask"], (0, room)),
    }


def with_packing(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    texts = batch["text_mask"].sum(-1).flatten()
    regions = batch["region_mask"].sum(-1).flatten()
    return batch | {"packing": joint_packing(texts, regions, batch["input_ids"].shape[-1])}


def test_logits_are_equal_alone_batched_and_with_more_padding(model: Oscar) -> None:
    examples = [example(1, 5, (3, 1)), example(2, 11, (2, 6)), example(3, 3, (0, 4))]
    alone = torch.cat([model(batch).logits for batch in examples])
    wide = [padded(batch, 22, 12) for batch in examples]
    batched = {name: torch.cat([batch[name] for batch in wide]) for name in wide[0]}
    torch.testing.assert_close(model(batched).logits, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(with_packing(batched)).logits, alone, atol=1e-5, rtol=0)


def test_joint_packing_returns_the_vector_of_every_position(model: Oscar) -> None:
    batch = padded(example(2, 6, (2, 5)), 9, 8)
    plain = model(batch)
    packed = model(with_packing(batch))
    assert packed.text_hidden.shape == plain.text_hidden.shape
    text = batch["text_mask"].flatten(0, 1)
    regions = batch["region_mask"].flatten(0, 1)
    torch.testing.assert_close(packed.text_hidden[text], plain.text_hidden[text], atol=1e-5, rtol=0)
    torch.testing.assert_close(packed.region_hidden[regions], plain.region_hidden[regions], atol=1e-5, rtol=0)
    assert not packed.region_hidden[~regions].any()


def test_joint_packing_is_shorter_than_padding_text_and_regions_apart() -> None:
    packing = joint_packing(torch.tensor([5, 20]), torch.tensor([30, 2]), 20)
    assert packing.shape == (2, 35)
    assert packing[0, :6].tolist() == [0, 1, 2, 3, 4, 20]
    assert packing[1, 19:23].tolist() == [19, 20, 21, -1]


def test_an_image_without_regions_gives_finite_logits_and_gradients(model: Oscar) -> None:
    batch = example(4, 4, (0, 0))
    logits = model(batch | {"text_mask": torch.zeros_like(batch["text_mask"])}).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_every_image_of_a_statement_matters(model: Oscar) -> None:
    batch = example(5, 6, (4, 4))
    exchanged = batch | {name: batch[name].flip(1) for name in ("regions", "boxes", "region_mask")}
    assert not torch.allclose(model(batch).logits, model(exchanged).logits, atol=1e-3)


def test_a_saved_and_loaded_model_gives_the_same_logits(model: Oscar, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    batch = example(6, 6, (4, 2))
    assert isinstance(loaded, Oscar)
    assert torch.equal(model(batch).logits, loaded(batch).logits)


def test_gradient_checkpointing_changes_memory_not_gradients(model: Oscar) -> None:
    batch = example(7, 6, (4, 2))
    model.train()
    model(batch).logits.sum().backward()
    plain = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    model.activation_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.bert.encoder.layer)
    model(batch).logits.sum().backward()
    saved = [weight.grad for weight in model.parameters() if weight.grad is not None]
    for before, after in zip(plain, saved, strict=True):
        torch.testing.assert_close(after, before)


def test_vinvl_head_has_the_originals_indices() -> None:
    names = set(Oscar(config(num_choice=2, use_img_layernorm=True)).state_dict())
    assert {"bert.LayerNorm.weight", "classifier.2.weight", "classifier.3.bias"} <= names
    assert "classifier.1.weight" not in names
