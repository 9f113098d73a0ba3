"""Two streams that meet: results depend on neither padding nor neighbours nor how often a text is repeated."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining, PreTrainedModel

from vlx.models.heads import Head, Sizes
from vlx.models.layers import SelfAttention
from vlx.models.lxmert import HEADS, Lxmert, LxmertConfig, LxmertForPreTraining, configure
from vlx.models.student import set_dropout, student_from

Batch = dict[str, Tensor]
NEED_REGIONS = ("regions", "boxes", "region_mask")


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
    generator, lead = torch.Generator().manual_seed(seed), (1, images) if images else (1,)
    corners = torch.rand(*lead, regions, 2, generator=generator) / 2
    return {
        "input_ids": torch.randint(1, 50, (1, tokens), generator=generator),
        "text_mask": torch.ones(1, tokens, dtype=torch.bool),
        "regions": torch.rand(*lead, regions, 8, generator=generator),
        "boxes": torch.cat([corners, corners + 0.3], -1),
        "region_mask": torch.ones(*lead, regions, dtype=torch.bool),
    }


def padded(batch: Batch, tokens: int, regions: int) -> Batch:
    """The same with room to spare, filled with noise that the masks must hide."""
    text, room = tokens - batch["input_ids"].shape[-1], regions - batch["regions"].shape[-2]
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


def test_logits_are_the_same_alone_batched_and_over_padded(model: Lxmert) -> None:
    """In double precision: with weights this large, single rounds logits of 7 by 1e-5 on some processors."""
    model, examples = model.double(), [example(1, 5, 3), example(2, 11, 6), example(3, 3, 1)]
    alone = torch.cat([model(batch).logits for batch in examples])
    batched = model(joined([padded(batch, 22, 12) for batch in examples]))
    torch.testing.assert_close(batched.logits, alone, atol=1e-12, rtol=0)


def test_scores_of_pretraining_are_the_same_batched_and_over_padded(trained: LxmertForPreTraining) -> None:
    examples = [(example(1, 5, 3), 5, 3), (example(2, 11, 6), 11, 6)]
    batched = trained(joined([padded(batch, 22, 12) for batch, *_ in examples]), heads=tuple(HEADS)).scores
    for row, (batch, tokens, regions) in enumerate(examples):
        lengths = {"words": tokens, "matched": None, "answers": None}
        for name, score in trained(batch, heads=tuple(HEADS)).scores.items():
            own = batched[name][row][: lengths.get(name, regions)]
            torch.testing.assert_close(own, score[0], atol=1e-5, rtol=0)


def test_a_sentence_about_two_images_is_read_once_and_scored_as_if_it_were_repeated() -> None:
    model, read = build(num_images=2, num_labels=2), []
    once = joined([example(1, 6, 4, images=2), example(2, 6, 4, images=2)])
    model.bert.encoder.layer[0].register_forward_hook(lambda _, __, output: read.append(len(output)))
    twice = once | {name: once[name][:, None].expand(2, 2, -1) for name in ("input_ids", "text_mask")}
    ours, theirs = model(once), model(twice)
    assert read == [2, 4] and ours.logits.shape == (2, 2) and ours.pooled.shape == (4, 24)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=0)
    swapped = once | {name: once[name].flip(1) for name in NEED_REGIONS}
    assert not torch.allclose(model(swapped).logits, ours.logits, atol=1e-3)


def test_several_texts_about_an_image_are_each_scored_as_alone(model: Lxmert) -> None:
    texts, image = [example(seed, 6, 4) for seed in (1, 2, 3)], example(4, 6, 4)
    many = image | {name: torch.stack([text[name] for text in texts], 1) for name in ("input_ids", "text_mask")}
    alone = torch.cat([model(text | {name: image[name] for name in NEED_REGIONS}).logits for text in texts])
    torch.testing.assert_close(model(many).logits, alone, atol=1e-5, rtol=0)


def test_what_no_answer_needs_of_the_last_layer_is_made_on_request_and_changes_none(model: Lxmert) -> None:
    ran: list[tuple[str, int]] = []
    for side in ("lang", "visn"):
        part = getattr(model.bert.encoder.x_layers[1], f"{side}_inter")["dense"]
        part.register_forward_hook(lambda _, given, made, side=side: ran.append((side, made.shape[1])))
    batch = example(1, 5, 3)
    plain = model(batch)
    assert plain.text_hidden is plain.region_hidden is None and ran == [("lang", 1)]
    asked = model(batch, output_hidden=True)
    assert asked.text_hidden.shape == (1, 5, 24) and asked.region_hidden.shape == (1, 3, 24)
    assert ran[1:] == [("lang", 5), ("visn", 3)]
    torch.testing.assert_close(asked.logits, plain.logits, atol=1e-5, rtol=0)


def test_pointing_gives_every_region_a_score_and_padding_the_least() -> None:
    model = build(pointing=True)
    batch = padded(example(1, 5, 3), 7, 6)
    scores = model(batch).logits
    torch.testing.assert_close(scores[:, :3], model(example(1, 5, 3)).logits, atol=1e-5, rtol=0)
    assert (scores[:, 3:] == torch.finfo(scores.dtype).min).all()
    moved = batch | {name: batch[name].flip(1) for name in NEED_REGIONS}
    torch.testing.assert_close(model(moved).logits.flip(1), scores, atol=1e-5, rtol=0)


def test_an_image_without_regions_and_views_of_one_modality_give_what_masks_give(model: Lxmert) -> None:
    batch = example(4, 4, 3)
    blind = batch | {"region_mask": torch.zeros_like(batch["region_mask"])}
    none = {name: batch[name][..., :0, :] for name in ("regions", "boxes")} | {
        "region_mask": batch["region_mask"][..., :0]
    }
    torch.testing.assert_close(model(batch | none).logits, model(blind).logits, atol=1e-5, rtol=0)
    deaf = batch | {"text_mask": torch.zeros_like(batch["text_mask"])}
    asks = {"input_ids": batch["input_ids"][..., :1], "text_mask": torch.zeros_like(batch["text_mask"][..., :1])}
    torch.testing.assert_close(model(batch | asks).logits, model(deaf).logits, atol=1e-5, rtol=0)
    logits = model(blind | deaf | {"region_mask": blind["region_mask"]}).logits
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_boxes_and_token_types_matter(model: Lxmert) -> None:
    batch = example(6, 5, 3)
    assert not torch.allclose(model(batch).logits, model(batch | {"boxes": batch["boxes"] / 2}).logits, atol=1e-4)
    plain = {name: torch.full_like(batch["input_ids"], value) for name, value in (("zero", 0), ("one", 1))}
    zero, one = (model(batch | {"token_type_ids": types}).logits for types in plain.values())
    assert torch.equal(zero, model(batch).logits) and not torch.allclose(zero, one, atol=1e-4)


def test_first_position_and_first_token_type_get_no_gradient(trained: LxmertForPreTraining) -> None:
    batch = example(7, 5, 3)
    trained(batch, heads=("words",)).logits.square().sum().backward()
    tables = trained.bert.embeddings
    for table in (tables.position_embeddings, tables.token_type_embeddings):
        assert not table.weight.grad[0].any()
    assert tables.position_embeddings.weight.grad[1:5].any(1).all()
    assert tables.word_embeddings.weight.grad[0].any()  # through the decoder that it is tied to


def test_only_the_heads_asked_for_run(trained: LxmertForPreTraining) -> None:
    trained.obj_predict_head["transform"].register_forward_hook(lambda *_: pytest.fail("the region heads ran"))
    trained.cls["predictions"].register_forward_hook(lambda *_: pytest.fail("the word head ran"))
    output = trained(example(9, 5, 3), heads=("answers", "matched"))
    assert list(output.scores) == ["answers", "matched"] and output.logits is output.scores["answers"]
    assert {name: tuple(score.shape) for name, score in output.scores.items()} == {
        "answers": (1, 11),
        "matched": (1, 2),
    }


def test_heads_that_the_configuration_leaves_out_are_not_there() -> None:
    names = LxmertForPreTraining(config(visual_losses=[], num_qa_labels=0)).state_dict()
    assert not any(name.startswith(("obj_predict_head", "answer_head")) for name in names)
    names = LxmertForPreTraining(config(visual_losses=["obj", "feat"])).state_dict()
    assert "obj_predict_head.decoder_dict.feat.bias" in names and "obj_predict_head.decoder_dict.attr.bias" not in names


@pytest.mark.parametrize(("kind", "auto"), [(Lxmert, AutoModel), (LxmertForPreTraining, AutoModelForPreTraining)])
def test_saved_and_loaded_model_is_the_same_to_the_bit(kind: type, auto: type, tmp_path) -> None:
    model = build(kind)
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path).eval()
    assert type(again) is kind and list(again.state_dict()) == list(model.state_dict())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    if kind is LxmertForPreTraining:
        assert again.cls["predictions"].decoder.weight is again.bert.embeddings.word_embeddings.weight


def test_gradient_checkpointing_changes_memory_not_gradients(trained: LxmertForPreTraining) -> None:
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
    """Counts and shapes of the specification, a.1 and a.5."""
    with torch.device("meta"):
        trained, model, pair = (
            LxmertForPreTraining(LxmertConfig()),
            Lxmert(LxmertConfig()),
            Lxmert(LxmertConfig(num_labels=2, num_images=2)),
        )
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
    sizes = Sizes(50, 40, 8, 24, 3, 1, 2, 4, 40, 0.02, 0.1, 0.1, "mlp")
    expected = {
        ("classify", 9, 1): (1, 9),
        ("classify", 2, 2): (1, 2),
        ("choose", 1, 1): (2, 1),
        ("point", 1, 1): (1, 4),
    }
    for head, shape in expected.items():
        model, batch = Lxmert(configure(Head(*head), sizes)).eval(), example(1, 6, 4)
        if head[2] == 2 or head[0] == "choose":
            batch = {name: tensor[:, None].expand(1, 2, *tensor.shape[1:]) for name, tensor in batch.items()}
        assert model(batch).logits.shape == shape


def test_a_student_has_fewer_language_layers(model: Lxmert) -> None:
    student = student_from(model, layers=1, init="last", seed=0).eval()
    assert len(student.bert.encoder.layer) == 1 and len(student.bert.encoder.x_layers) == 2
    own, taught = (each.state_dict() for each in (student, model))
    assert torch.equal(
        own["bert.encoder.layer.0.output.dense.weight"], taught["bert.encoder.layer.2.output.dense.weight"]
    )


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
