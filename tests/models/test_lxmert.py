"""Two streams that meet: results depend neither on padding nor on other rows nor on repeated texts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining, PreTrainedModel

from tests.models.helpers import OPTIONS
from vlx.models.create import new_config
from vlx.models.heads import Head
from vlx.models.layers import SelfAttention
from vlx.models.lxmert import HEADS, SPEC, Lxmert, LxmertConfig, LxmertForPreTraining
from vlx.models.student import set_dropout, student_from

Batch = dict[str, Tensor]
REGION_KEYS = ("regions", "boxes", "region_mask")


def config(**options: object) -> LxmertConfig:
    sizes = {
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "region_layers": 2, "cross_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 40, "visual_feat_dim": 8, "max_position_embeddings": 40,
        "num_labels": 9, "num_qa_labels": 11, "num_object_labels": 7, "num_attr_labels": 5,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return LxmertConfig(**(sizes | options))


def build(kind: Callable[[LxmertConfig], PreTrainedModel] = Lxmert, **options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config(**options)).eval()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            norm = isinstance(module, torch.nn.LayerNorm) and weight is module.weight
            torch.nn.init.normal_(weight, mean=float(norm), std=0.3)
    return model


@pytest.fixture
def model() -> Lxmert:
    return build()


@pytest.fixture
def trained() -> LxmertForPreTraining:
    return build(LxmertForPreTraining)


def example(seed: int, tokens: int, regions: int, *, images: int = 0) -> Batch:
    """One text with one image, or with `images` of them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, images) if images else (1,)
    corners = torch.rand(*shape, regions, 2, generator=generator) / 2
    return {
        "input_ids": torch.randint(1, 50, (1, tokens), generator=generator),
        "text_mask": torch.ones(1, tokens, dtype=torch.bool),
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


def test_logits_are_equal_alone_batched_and_with_more_padding(model: Lxmert) -> None:
    """In double precision: with weights this large, single rounds logits of 7 by 1e-5 on some processors."""
    model = model.double()
    examples = [example(1, 5, 3), example(2, 11, 6), example(3, 3, 1)]
    alone = torch.cat([model(batch).logits for batch in examples])
    batched = model(joined([padded(batch, 22, 12) for batch in examples]))
    torch.testing.assert_close(batched.logits, alone, atol=1e-12, rtol=0)


def test_scores_of_pretraining_are_equal_batched_and_with_more_padding(trained: LxmertForPreTraining) -> None:
    examples = [(example(1, 5, 3), 5, 3), (example(2, 11, 6), 11, 6)]
    batched = trained(joined([padded(batch, 22, 12) for batch, *_ in examples]), heads=tuple(HEADS)).scores
    for row, (batch, tokens, regions) in enumerate(examples):
        lengths = {"mlm": tokens, "itm": None, "qa": None}
        for name, score in trained(batch, heads=tuple(HEADS)).scores.items():
            unpadded = batched[name][row][: lengths.get(name, regions)]
            torch.testing.assert_close(unpadded, score[0], atol=1e-5, rtol=0)


def test_a_sentence_with_two_images_is_encoded_once_and_scored_as_if_repeated() -> None:
    model = build(num_images=2, num_labels=2)
    rows = []
    once = joined([example(1, 6, 4, images=2), example(2, 6, 4, images=2)])
    model.bert.encoder.layer[0].register_forward_hook(lambda _, __, output: rows.append(len(output)))
    repeated = once | {name: once[name][:, None].expand(2, 2, -1) for name in ("input_ids", "text_mask")}
    output = model(once)
    expected = model(repeated)
    assert rows == [2, 4] and output.logits.shape == (2, 2) and output.pooled.shape == (4, 24)
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
    exchanged = once | {name: once[name].flip(1) for name in REGION_KEYS}
    assert not torch.allclose(model(exchanged).logits, output.logits, atol=1e-3)


def test_several_texts_about_an_image_are_scored_as_each_alone(model: Lxmert) -> None:
    texts = [example(seed, 6, 4) for seed in (1, 2, 3)]
    image = example(4, 6, 4)
    batch = image | {name: torch.stack([text[name] for text in texts], 1) for name in ("input_ids", "text_mask")}
    alone = torch.cat([model(text | {name: image[name] for name in REGION_KEYS}).logits for text in texts])
    torch.testing.assert_close(model(batch).logits, alone, atol=1e-5, rtol=0)


def test_the_states_of_the_last_layer_are_computed_on_request_and_change_no_logits(model: Lxmert) -> None:
    calls: list[tuple[str, int]] = []
    for stream in ("lang", "visn"):
        dense = getattr(model.bert.encoder.x_layers[1], f"{stream}_inter")["dense"]
        dense.register_forward_hook(lambda _, __, output, stream=stream: calls.append((stream, output.shape[1])))
    batch = example(1, 5, 3)
    plain = model(batch)
    assert plain.text_hidden is plain.region_hidden is None and calls == [("lang", 1)]
    full = model(batch, output_hidden=True)
    assert full.text_hidden.shape == (1, 5, 24) and full.region_hidden.shape == (1, 3, 24)
    assert calls[1:] == [("lang", 5), ("visn", 3)]
    torch.testing.assert_close(full.logits, plain.logits, atol=1e-5, rtol=0)


def test_grounding_scores_every_region_and_gives_padding_the_lowest_number() -> None:
    model = build(grounding=True)
    batch = padded(example(1, 5, 3), 7, 6)
    scores = model(batch).logits
    torch.testing.assert_close(scores[:, :3], model(example(1, 5, 3)).logits, atol=1e-5, rtol=0)
    assert (scores[:, 3:] == torch.finfo(scores.dtype).min).all()
    flipped = batch | {name: batch[name].flip(1) for name in REGION_KEYS}
    torch.testing.assert_close(model(flipped).logits.flip(1), scores, atol=1e-5, rtol=0)


def test_an_image_without_regions_and_a_text_without_tokens_score_as_masked_ones(model: Lxmert) -> None:
    batch = example(4, 4, 3)
    no_regions = {"region_mask": torch.zeros_like(batch["region_mask"])}
    empty = {name: batch[name][..., :0, :] for name in ("regions", "boxes")}
    empty["region_mask"] = batch["region_mask"][..., :0]
    torch.testing.assert_close(model(batch | empty).logits, model(batch | no_regions).logits, atol=1e-5, rtol=0)
    no_text = {"text_mask": torch.zeros_like(batch["text_mask"])}
    short = {"input_ids": batch["input_ids"][..., :1], "text_mask": no_text["text_mask"][..., :1]}
    torch.testing.assert_close(model(batch | short).logits, model(batch | no_text).logits, atol=1e-5, rtol=0)
    logits = model(batch | no_regions | no_text).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_boxes_and_token_types_matter(model: Lxmert) -> None:
    batch = example(6, 5, 3)
    assert not torch.allclose(model(batch).logits, model(batch | {"boxes": batch["boxes"] / 2}).logits, atol=1e-4)
    types = [torch.full_like(batch["input_ids"], value) for value in (0, 1)]
    zeros, ones = (model(batch | {"token_type_ids": row}).logits for row in types)
    assert torch.equal(zeros, model(batch).logits) and not torch.allclose(zeros, ones, atol=1e-4)


def test_first_position_and_first_token_type_get_no_gradient(trained: LxmertForPreTraining) -> None:
    batch = example(7, 5, 3)
    trained(batch, heads=("mlm",)).logits.square().sum().backward()
    tables = trained.bert.embeddings
    for table in (tables.position_embeddings, tables.token_type_embeddings):
        assert not table.weight.grad[0].any()
    assert tables.position_embeddings.weight.grad[1:5].any(1).all()
    assert tables.word_embeddings.weight.grad[0].any()  # through the tied decoder


def test_only_the_heads_of_the_call_run(trained: LxmertForPreTraining) -> None:
    trained.obj_predict_head["transform"].register_forward_hook(lambda *_: pytest.fail("the region heads ran"))
    trained.cls["predictions"].register_forward_hook(lambda *_: pytest.fail("the MLM head ran"))
    output = trained(example(9, 5, 3), heads=("qa", "itm"))
    assert list(output.scores) == ["qa", "itm"] and output.logits is output.scores["qa"]
    assert {name: tuple(score.shape) for name, score in output.scores.items()} == {"qa": (1, 11), "itm": (1, 2)}


def test_heads_that_the_configuration_does_not_name_do_not_exist() -> None:
    names = LxmertForPreTraining(config(visual_losses=[], num_qa_labels=0)).state_dict()
    assert not any(name.startswith(("obj_predict_head", "answer_head")) for name in names)
    names = LxmertForPreTraining(config(visual_losses=["obj", "feat"])).state_dict()
    assert "obj_predict_head.decoder_dict.feat.bias" in names and "obj_predict_head.decoder_dict.attr.bias" not in names


@pytest.mark.parametrize(("kind", "auto"), [(Lxmert, AutoModel), (LxmertForPreTraining, AutoModelForPreTraining)])
def test_a_saved_and_loaded_model_has_the_same_bits(kind: type, auto: type, tmp_path) -> None:
    model = build(kind)
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path).eval()
    assert type(loaded) is kind and list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    if kind is LxmertForPreTraining:
        assert loaded.cls["predictions"].decoder.weight is loaded.bert.embeddings.word_embeddings.weight


def test_gradient_checkpointing_changes_no_gradient(trained: LxmertForPreTraining) -> None:
    batch = joined([padded(example(7, 6, 4), 8, 5), padded(example(8, 8, 5), 8, 5)])

    def gradients() -> dict[str, Tensor]:
        trained.train().zero_grad()
        sum(score.square().mean() for score in trained(batch, heads=tuple(HEADS)).scores.values()).backward()
        return {name: weight.grad.clone() for name, weight in trained.named_parameters()}

    plain = gradients()
    trained.activation_checkpointing_enable()
    stacks = (trained.bert.encoder.layer, trained.bert.encoder.r_layers, trained.bert.encoder.x_layers)
    assert all(layer.gradient_checkpointing for stack in stacks for layer in stack)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name])


def test_published_model_has_the_originals_weights() -> None:
    """Counts and shapes of the published checkpoint (LXMERT, src/lxrt/modeling.py)."""
    with torch.device("meta"):
        trained = LxmertForPreTraining(LxmertConfig())
        model = Lxmert(LxmertConfig())
        pair = Lxmert(LxmertConfig(num_labels=2, num_images=2))
    assert sum(weight.numel() for weight in trained.parameters()) == 228_051_752
    assert sum(weight.numel() for weight in trained.bert.parameters()) == 207_936_768
    assert sum(weight.numel() for weight in trained.bert.encoder.layer[0].parameters()) == 7_087_872
    assert sum(weight.numel() for weight in trained.bert.encoder.x_layers[0].parameters()) == 16_539_648
    shapes = {name: tuple(tensor.shape) for name, tensor in trained.state_dict().items()}
    assert len(shapes) == 473
    assert shapes["bert.encoder.x_layers.4.visual_attention.att.query.weight"] == (768, 768)
    assert shapes["bert.encoder.r_layers.4.attention.output.LayerNorm.bias"] == (768,)
    assert shapes["obj_predict_head.decoder_dict.feat.weight"] == (2048, 768)
    assert shapes["answer_head.logit_fc.3.weight"] == (9500, 1536)
    assert [tuple(weight.shape) for weight in model.logit_fc.parameters()][-2:] == [(3129, 1536), (3129,)]
    heads = [(1536, 1536), (1536,), (1536,), (1536,), (2, 1536), (2,)]
    assert [tuple(weight.shape) for weight in pair.logit_fc.parameters()] == heads


def test_a_new_model_of_any_head() -> None:
    expected = {
        ("classify", 9, 1): (1, 9),
        ("classify", 2, 2): (1, 2),
        ("multiple_choice", 1, 1): (2, 1),
        ("grounding", 1, 1): (1, 4),
    }
    for head, shape in expected.items():
        config = new_config(SPEC, Head(*head), OPTIONS, vocab_size=50, region_dim=8)
        model = Lxmert(config).eval()
        batch = example(1, 6, 4)
        if head[2] == 2 or head[0] == "multiple_choice":
            batch = {name: tensor[:, None].expand(1, 2, *tensor.shape[1:]) for name, tensor in batch.items()}
        assert model(batch).logits.shape == shape


def test_a_student_has_fewer_language_layers(model: Lxmert) -> None:
    student = student_from(model, layers=1, init="last", seed=0).eval()
    assert len(student.bert.encoder.layer) == 1 and len(student.bert.encoder.x_layers) == 2
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(student.state_dict()[name.format(0)], model.state_dict()[name.format(2)])


def test_dropout_reaches_every_attention(model: Lxmert) -> None:
    set_dropout(model, 0.3, 0.4)
    assert {module.dropout for module in model.modules() if isinstance(module, SelfAttention)} == {0.4}
    batch = example(1, 5, 3)
    assert not torch.equal(model.train()(batch).logits, model(batch).logits)


def test_batches_of_another_shape_are_refused(model: Lxmert) -> None:
    batch = example(1, 5, 3, images=2)
    texts = {name: batch[name][:, None].expand(1, 3, -1) for name in ("input_ids", "text_mask")}
    with pytest.raises(ValueError, match=r"texts \(1, 3\) and images \(1, 2\)"):
        model(batch | texts)
    with pytest.raises(RuntimeError, match="24"):  # one image for a head of two
        build(num_images=2)(example(1, 5, 3))
    with pytest.raises(RuntimeError, match="8"):
        model(batch | {"regions": batch["regions"][..., :5]})
