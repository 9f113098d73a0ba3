"""Two streams: results depend neither on padding nor on other rows nor on repeated captions or images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from vlx.errors import ConfigError
from vlx.models.student import set_dropout
from vlx.models.vilbert import MixedAttention, Vilbert, VilbertConfig
from vlx.models.vilbert_heads import PRETRAINING

Batch = dict[str, Tensor]
UNUSED = 6 * (1025 * 1024 + 1025 * 768)  # the original's q_dense1 and q_dense2 of six bridges, which it never uses
SINGLE = ("vil_prediction", "vil_tri_prediction", "itm", "vil_logit")  # heads of one text and one image


def config(**options: object) -> VilbertConfig:
    sizes = {
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 40,
        "v_feature_size": 8, "v_target_size": 7, "v_hidden_size": 20, "v_num_hidden_layers": 3,
        "v_num_attention_heads": 5, "v_intermediate_size": 28, "bi_hidden_size": 18, "bi_num_attention_heads": 3,
        "t_biattention_id": [1, 3], "v_biattention_id": [1, 2], "max_position_embeddings": 40,
    }  # fmt: skip
    drops = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    sizes |= {f"{stream}{name}": 0.0 for stream in ("", "v_") for name in drops}
    heads = {"vil_prediction": ("answers", 9), "vil_binary_prediction": ("pair", 2), "vil_logit": ("match", 1)}
    heads |= {"vil_tri_prediction": ("classes", 3), "vision_logit": ("regions", 1), "linguisic_logit": ("tokens", 1)}
    sizes |= {"heads": heads, "task_specific_tokens": True}
    return VilbertConfig(**(sizes | options))


def build(**options: object) -> Vilbert:
    torch.manual_seed(0)
    model = Vilbert(config(**options)).eval()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            norm = isinstance(module, torch.nn.LayerNorm) and weight is module.weight
            torch.nn.init.normal_(weight, mean=float(norm), std=0.3)
    return model


@pytest.fixture
def model() -> Vilbert:
    return build()


def example(seed: int, tokens: int, regions: int, *, images: int = 0) -> Batch:
    """One text with one image, or with `images` of them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, images) if images else (1,)
    corners = torch.rand(*shape, regions, 2, generator=generator) / 2
    return {
        "input_ids": torch.randint(1, 50, (1, tokens), generator=generator),
        "text_mask": torch.ones(1, tokens, dtype=torch.bool),
        "task_ids": torch.tensor([seed % 20]),
        "regions": torch.rand(*shape, regions, 8, generator=generator),
        "boxes": torch.cat([corners, corners + 0.3], -1),
        "region_mask": torch.ones(*shape, regions, dtype=torch.bool),
    }


def padded(batch: Batch, tokens: int, regions: int) -> Batch:
    """The batch with more padding, of noise that the masks must hide."""
    text = tokens - batch["input_ids"].shape[-1]
    room = regions - batch["regions"].shape[-2]
    pad = torch.nn.functional.pad
    return batch | {
        "input_ids": pad(batch["input_ids"], (0, text), value=7),
        "text_mask": pad(batch["text_mask"], (0, text)),
        "regions": pad(batch["regions"], (0, 0, 0, room), value=3.0),
        "boxes": pad(batch["boxes"], (0, 0, 0, room), value=0.5),
        "region_mask": pad(batch["region_mask"], (0, room)),
    }


def joined(batches: list[Batch]) -> Batch:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize("options", [{}, {"dynamic_attention": True, "fusion_method": "sum"}])
def test_scores_are_equal_alone_batched_and_with_more_padding(options: dict[str, object]) -> None:
    model = build(**options)
    examples = [example(1, 5, 3), example(2, 11, 6), example(3, 3, 1)]
    alone = [model(batch, heads=(*SINGLE, "vision_logit")).scores for batch in examples]
    batched = model(joined([padded(batch, 22, 12) for batch in examples]), heads=(*SINGLE, "vision_logit")).scores
    for name in SINGLE:
        expected = torch.cat([scores[name] for scores in alone])
        torch.testing.assert_close(batched[name], expected, atol=1e-5, rtol=0)
    for row, scores in zip(batched["vision_logit"], alone, strict=True):
        count = scores["vision_logit"].shape[1]
        torch.testing.assert_close(row[:count], scores["vision_logit"][0], atol=1e-5, rtol=0)
        assert (row[count:] < -9_000).all()


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_caption_with_several_images_is_encoded_once_and_scored_as_each_pair_alone(dynamic: bool) -> None:
    model = build(dynamic_attention=dynamic)
    rows = []
    batch = joined([example(1, 6, 4, images=3), example(2, 6, 4, images=3)])
    model.bert.encoder.layer[0].register_forward_hook(lambda _, __, output: rows.append(len(output)))
    scores = model(batch, heads=("vil_logit",)).logits
    assert rows == [2] and scores.shape == (2, 3)
    images = ("regions", "boxes", "region_mask")
    for b, n in ((0, 1), (1, 1)):
        pair = {name: tensor[b, n] if name in images else tensor[b] for name, tensor in batch.items()}
        pair = {name: tensor[None] for name, tensor in pair.items()}
        torch.testing.assert_close(scores[b, n], model(pair, heads=("vil_logit",)).logits[0, 0], atol=1e-5, rtol=0)


def test_an_image_with_several_captions_scores_as_the_repeated_image(model: Vilbert) -> None:
    texts = joined([example(seed, 6, 4) for seed in (1, 2, 3)])
    image = example(4, 6, 4)
    shared = image | {name: texts[name][None] for name in ("input_ids", "text_mask")}
    repeated = {name: image[name].expand(3, *image[name].shape[1:]) for name in image}
    repeated |= {name: texts[name] for name in ("input_ids", "text_mask")}
    scores, alone = (model(batch, heads=("vil_logit",)).logits for batch in (shared, repeated))
    torch.testing.assert_close(scores, alone.T, atol=1e-5, rtol=0)


def test_a_pair_head_reads_both_images_in_their_order(model: Vilbert) -> None:
    batch = example(5, 6, 4, images=2)
    exchanged = batch | {name: batch[name].flip(1) for name in ("regions", "boxes", "region_mask")}
    both = [model(each, heads=("vil_binary_prediction",)).logits for each in (batch, exchanged)]
    assert both[0].shape == (1, 2) and not torch.allclose(*both, atol=1e-3)


def test_the_global_region_is_the_mean_region_on_the_whole_image() -> None:
    plain = build()
    without = build(global_region=False)
    batch = padded(example(1, 5, 3), 5, 6)
    first = {"regions": batch["regions"][:, :3].mean(1, keepdim=True), "boxes": torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])}
    first["region_mask"] = torch.tensor([[True]])
    extended = batch | {name: torch.cat([row, batch[name]], 1) for name, row in first.items()}
    output = plain(batch, heads=("vil_logit", "vision_logit"))
    expected = without(extended, heads=("vil_logit", "vision_logit"))
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.scores["vision_logit"], expected.scores["vision_logit"][:, 1:])
    assert output.region_hidden.shape[1] == 6
    scaled = extended | {"regions": torch.cat([first["regions"] * 1.5, batch["regions"]], 1)}
    visible = batch | {"visible_region_mask": torch.tensor([[True, False, True, False, False, False]])}  # 3 regions / 2
    torch.testing.assert_close(plain(visible).logits, without(scaled).logits)


def test_the_area_of_a_region_and_the_token_of_the_task_change_the_scores(model: Vilbert) -> None:
    batch = example(6, 5, 3)
    assert not torch.allclose(model(batch).logits, model(batch | {"boxes": batch["boxes"] / 2}).logits, atol=1e-4)
    next_task = batch | {"task_ids": batch["task_ids"] + 1}
    assert not torch.allclose(model(batch).logits, model(next_task).logits, atol=1e-4)
    assert model(batch).text_hidden.shape[1] == 6  # the task's token is the second


def test_without_co_attention_the_text_does_not_depend_on_the_image() -> None:
    for used in (True, False):
        model = build(with_coattention=used)
        batch = example(7, 5, 3)
        hidden = [model(batch | {"regions": batch["regions"] * scale}).text_hidden for scale in (1, 2)]
        assert torch.equal(*hidden) is not used


def test_fixed_layers_get_no_gradient_and_change_no_value() -> None:
    plain = build()
    fixed = build(fixed_t_layer=1, fixed_v_layer=1)
    batch = example(8, 5, 3)
    assert torch.equal(plain(batch).logits, fixed(batch).logits)
    fixed(batch).logits.sum().backward()
    names = {name for name, weight in fixed.named_parameters() if weight.grad is not None}
    assert {"bert.encoder.layer.1.output.dense.weight", "bert.encoder.v_layer.1.output.dense.weight"} <= names
    assert not any(".layer.0." in name or ".v_layer.0." in name or "embeddings" in name for name in names)


def test_only_the_heads_of_the_call_run(model: Vilbert) -> None:
    model.cls.register_forward_hook(lambda *_: pytest.fail("the heads of pre-training ran"))
    model.cls.predictions.register_forward_hook(lambda *_: pytest.fail("the MLM head ran"))
    assert model(example(9, 5, 3)).scores.keys() == {"vil_prediction"}
    assert model(example(9, 5, 3), heads=("vil_logit", "itm")).scores.keys() == {"vil_logit", "itm"}


def test_a_new_head_is_one_entry_of_the_configuration() -> None:
    model = build(heads={"colour": ("classes", 5), "shape": ("triple", 4)}, head="colour")
    assert model(example(1, 5, 3)).logits.shape == (1, 5)
    assert model(example(1, 5, 3, images=3), heads=("shape",)).logits.shape == (1, 4)


def test_a_saved_and_loaded_model_has_the_same_bits_and_stays_tied(model: Vilbert, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, Vilbert) and list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    heads = (*SINGLE, "vision_logit", "linguisic_logit", *PRETRAINING)
    before, after = (each(example(1, 5, 3), heads=heads).scores for each in (model, loaded))
    for name in heads:  # mapped weights lie elsewhere in memory, which moves the last bit of a product
        torch.testing.assert_close(before[name], after[name], atol=1e-5, rtol=0)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = build(dynamic_attention=True).train()
    batch = example(7, 6, 4, images=2)
    model.dropout.p = 0.0

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(batch, heads=("vil_binary_prediction",)).logits.sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    plain = gradients()
    model.activation_checkpointing_enable()
    stacks = (model.bert.encoder.layer, model.bert.encoder.v_layer, model.bert.encoder.c_layer)
    assert all(layer.gradient_checkpointing for stack in stacks for layer in stack)
    saved = gradients()
    assert saved.keys() == plain.keys() and len(saved) > 100
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient)


def test_published_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Vilbert(VilbertConfig(task_specific_tokens=True))
    assert sum(weight.numel() for weight in model.parameters()) == 268_028_859 - UNUSED
    assert sum(weight.numel() for weight in model.bert.parameters()) == 246_742_016 - UNUSED


def test_dropout_acts_on_both_streams_and_the_bridges(model: Vilbert) -> None:
    set_dropout(model, 0.3, 0.4)
    assert {module.dropout for module in model.modules() if isinstance(module, MixedAttention)} == {0.4}
    batch = example(1, 5, 3)
    assert not torch.equal(model.train()(batch).logits, model(batch).logits)


def test_an_image_without_regions_and_a_masked_text_give_finite_gradients() -> None:
    model = build(dynamic_attention=True)
    batch = example(4, 4, 0)
    logits = model(batch | {"text_mask": torch.zeros_like(batch["text_mask"])}).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"t_biattention_id": [3]}, r"t_biattention_id=\[3\]: expected as many"),
        ({"t_biattention_id": [3, 4]}, r"t_biattention_id=\[3, 4\]: expected rising indices of the 4 layers"),
        ({"v_biattention_id": [2, 1]}, "v_biattention_id=.*rising"),
        ({"fixed_t_layer": 2}, "fixed_t_layer=2: expected at most .* 1"),
        ({"fusion_method": "cat"}, "fusion_method=cat: expected mul or sum"),
        ({"heads": {"colour": ("round", 3)}, "head": "colour"}, "colour is of kind round; expected one of answers"),
        ({"head": "vil"}, "head=vil: expected one of mlm"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused_in_a_line(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as error:
        Vilbert(config(**options))
    assert "\n" not in str(error.value)


def test_texts_and_images_that_do_not_match_are_refused(model: Vilbert) -> None:
    batch = example(1, 5, 3, images=2)
    texts = {name: batch[name][:, None].expand(1, 3, -1) for name in ("input_ids", "text_mask")}
    with pytest.raises(ValueError, match=r"texts \(1, 3\) and images \(1, 2\)"):
        model(batch | texts)
