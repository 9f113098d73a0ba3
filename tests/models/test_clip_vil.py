"""One stream over text tokens and grid cells: what scores depend on, and what they do not depend on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from vlx.errors import ConfigError
from vlx.models.clip_vil import ClipVil, ClipVilConfig
from vlx.models.student import set_dropout, student_from

Batch = dict[str, Tensor]
ALL = ("mlm", "itm", "qa")
RN50X4 = {"vision_layers": [4, 6, 10, 6], "vision_width": 80, "clip_places": 82, "clip_embed_dim": 640}


def config(**options: object) -> ClipVilConfig:
    sizes = {
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": 40, "vision_layers": [1, 1, 1, 1], "vision_width": 2, "pos_num": 4, "num_labels": 7,
        "clip_places": 5, "clip_embed_dim": 6, "clip_text_width": 8, "clip_text_layers": 2, "clip_positions": 5,
        "clip_vocab_size": 11, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return ClipVilConfig(**(sizes | options))


def build(**options: object) -> ClipVil:
    torch.manual_seed(0)
    model = ClipVil(config(**options)).eval()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            norm = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)) and weight is module.weight
            nn.init.normal_(weight, mean=float(norm), std=0.3)
    return model


@pytest.fixture
def model() -> ClipVil:
    return build()


def example(seed: int, tokens: int, *, height: int = 64, width: int = 96) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(1, 50, (1, tokens), generator=generator),
        "text_mask": torch.ones(1, tokens, dtype=torch.bool),
        "pixels": torch.randn(1, 3, height, width, generator=generator),
    }


def padded(batch: Batch, tokens: int) -> Batch:
    """The batch with more padding, of noise that the masks must hide."""
    room = tokens - batch["input_ids"].shape[1]
    pad = nn.functional.pad
    text = {"input_ids": pad(batch["input_ids"], (0, room), value=7), "text_mask": pad(batch["text_mask"], (0, room))}
    return batch | text


def joined(batches: list[Batch]) -> Batch:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_scores_are_equal_alone_batched_and_with_more_padding(model: ClipVil) -> None:
    examples = [example(1, 5), example(2, 11), example(3, 3)]
    alone = [model(batch, heads=ALL) for batch in examples]
    batched = model(joined([padded(batch, 22) for batch in examples]), heads=ALL)
    for name in ("itm", "qa"):
        expected = torch.cat([output.scores[name] for output in alone])
        torch.testing.assert_close(batched.scores[name], expected, atol=1e-5, rtol=0)
    for row, output in zip(batched.scores["mlm"], alone, strict=True):
        length = output.text_hidden.shape[1]
        torch.testing.assert_close(row[:length], output.scores["mlm"][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(batched.region_hidden, torch.cat([output.region_hidden for output in alone]))


def test_sampled_grid_features_keep_their_positions_in_any_order(model: ClipVil) -> None:
    batch = joined([example(1, 5), example(2, 5)])  # 2 x 3 cells
    full = model(batch)
    order = torch.tensor([[5, 0, 3, 1, 4, 2], [2, 4, 1, 0, 5, 3]])
    shuffled = model(batch | {"sampled_grid_features": order})
    torch.testing.assert_close(shuffled.logits, full.logits, atol=1e-5, rtol=0)
    expected = full.region_hidden.gather(1, order[..., None].expand_as(full.region_hidden))
    torch.testing.assert_close(shuffled.region_hidden, expected, atol=1e-5, rtol=0)
    fewer = model(batch | {"sampled_grid_features": order[:, :3]})
    mask = torch.ones(2, 6, dtype=torch.bool).scatter(1, order[:, 3:], False)
    assert fewer.region_hidden.shape[1] == 3
    torch.testing.assert_close(fewer.pooled, model(batch | {"grid_mask": mask}).pooled, atol=1e-5, rtol=0)


def test_a_mask_of_the_grid_follows_the_sampled_grid_features(model: ClipVil) -> None:
    batch = example(1, 5)
    sampled = torch.tensor([[1, 4, 2]])
    mask = torch.tensor([[True, False, True, True, True, True]])
    both = model(batch | {"sampled_grid_features": sampled, "grid_mask": mask})
    torch.testing.assert_close(both.pooled, model(batch | {"sampled_grid_features": torch.tensor([[4, 2]])}).pooled)


def test_the_table_called_x_embeds_rows_and_the_one_called_y_columns(model: ClipVil) -> None:
    positions = model.bert.encoder.visual_pos
    grid = positions(torch.zeros(1, 64, 2, 3))
    expected = positions.x_position_embedding.weight[1] + positions.y_position_embedding.weight[2]
    torch.testing.assert_close(grid[0, :, 1, 2], expected)
    mirrored = example(1, 5)
    mirrored["pixels"] = mirrored["pixels"].flip(3)
    assert not torch.allclose(model(mirrored).logits, model(example(1, 5)).logits, atol=1e-4)


def test_without_position_embeddings_the_order_of_cells_changes_nothing() -> None:
    image = torch.zeros(1, 3, 64, 32)
    image[:, :, 32:] = 1.0  # a bright lower half: two different cells
    text = {name: example(1, 5)[name] for name in ("input_ids", "text_mask")}
    for model, ignores_order in ((build(), False), (build(pos_num=0), True)):
        grid = model.bert.encoder.visual_model(image)
        model.bert.encoder.visual_model.forward = lambda pixels, grid=grid: grid if pixels.any() else grid.flip(2)
        upright, flipped = (model(text | {"pixels": pixels}).pooled for pixels in (image, torch.zeros_like(image)))
        assert torch.allclose(upright, flipped, atol=1e-5) is ignores_order


def test_pooled_is_linear_in_the_first_token(model: ClipVil) -> None:
    output = model(example(1, 5))
    dense = model.bert.pooler["dense"]
    torch.testing.assert_close(output.pooled, output.text_hidden[:, 0] @ dense.weight.T + dense.bias)
    assert output.pooled.abs().max() > 1  # the range of tanh ends there


def test_the_first_rows_of_the_embeddings_get_gradients_from_the_mlm_head_alone(model: ClipVil) -> None:
    batch = example(1, 5)
    batch["input_ids"][0, -1] = 0
    model(batch, heads=("itm",)).logits.sum().backward()
    tables = model.bert.embeddings
    for table in (tables.word_embeddings, tables.position_embeddings, tables.token_type_embeddings):
        assert not table.weight.grad[0].any()
    assert tables.position_embeddings.weight.grad[1].any()
    model(batch, heads=("mlm",)).logits.sum().backward()
    assert tables.word_embeddings.weight.grad[0].any()


def test_only_the_heads_of_the_call_run(model: ClipVil) -> None:
    model.cls["predictions"].register_forward_hook(lambda *_: pytest.fail("the MLM head ran"))
    assert model(example(9, 5), heads=("qa", "itm")).scores.keys() == {"qa", "itm"}


def test_states_and_attentions_on_request(model: ClipVil) -> None:
    output = model(example(1, 5), output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in output.hidden_states] == [(1, 11, 24)] * 4
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(1, 4, 11))
    torch.testing.assert_close(output.hidden_states[-1][:, :5], output.text_hidden)
    plain = model(example(1, 5))
    assert plain.hidden_states == () == plain.attentions


@pytest.mark.parametrize("options", [{}, {"unused_weights": True}, {"heads": ["qa"]}, {"pos_num": 0}])
def test_a_saved_and_loaded_model_has_the_same_bits_and_stays_tied(options: dict[str, object], tmp_path: Path) -> None:
    model = build(**options)
    model.bert.encoder.visual_model.train()(example(1, 5)["pixels"])  # running statistics that are no longer new
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, ClipVil) and list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    if "mlm" in model.config.heads:
        assert loaded.cls["predictions"].decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    before, after = (each(example(1, 5), heads=model.config.heads).scores for each in (model, loaded))
    for name, scores in before.items():  # mapped weights lie elsewhere in memory, which moves the last bit of a product
        torch.testing.assert_close(after[name], scores, atol=1e-5, rtol=0)


def test_gradient_checkpointing_changes_neither_gradients_nor_batch_statistics() -> None:
    batch = joined([example(7, 6), example(8, 6)])

    def gradients(checkpointing: bool) -> Batch:
        model = build().train()
        if checkpointing:
            model.activation_checkpointing_enable()
            assert all(layer.gradient_checkpointing for layer in model.bert.encoder.layer)
        sum(score.sum() for score in model(batch, heads=ALL).scores.values()).backward()
        statistics = {name: tensor for name, tensor in model.named_buffers() if "running" in name or "tracked" in name}
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None} | statistics

    plain = gradients(False)
    saved = gradients(True)
    assert saved.keys() == plain.keys() and any("conv1" in name for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(saved[name], gradient)


@pytest.mark.parametrize(
    ("options", "tensors", "parameters", "clip", "trunk"),
    [({}, 712, 229.6, 102.0, 23.5), (RN50X4 | {"clip_text_width": 640}, 892, 306.3, 178.3, 65.6)],  # in millions
)
def test_published_models_have_the_published_number_of_weights(
    options: dict[str, object], tensors: int, parameters: float, clip: float, trunk: float
) -> None:
    with torch.device("meta"):
        model = ClipVil(ClipVilConfig(unused_weights=True, **options))
        used = ClipVil(ClipVilConfig(**options))
    assert len(model.state_dict()) == tensors
    parts = (model, model.bert.encoder.visual_model, used.bert.encoder.visual_model)
    counts = [sum(weight.numel() for weight in part.parameters()) for part in parts]
    assert [round(count / 1e6, 1) for count in counts] == [parameters, clip, trunk]
    assert used.state_dict().keys() < model.state_dict().keys()


def test_dropout_acts_on_the_stream_and_not_on_the_grid(model: ClipVil) -> None:
    set_dropout(model, 0.3, 0.4)
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.3}
    batch = example(1, 5)
    model.train()
    model.bert.encoder.visual_model.eval()
    assert not torch.equal(model(batch).logits, model(batch).logits)
    grids = [model.bert.encoder.visual_model(batch["pixels"]) for _ in range(2)]
    assert torch.equal(*grids)


def test_a_student_has_some_of_the_layers_and_the_full_grid(model: ClipVil) -> None:
    student = student_from(model, layers=1, init="last", seed=0)
    teacher_weights = model.state_dict()
    weights = student.state_dict()
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(weights[name.format(0)], teacher_weights[name.format(2)])
    assert all(torch.equal(weights[name], teacher_weights[name]) for name in weights if ".layer." not in name)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"heads": ["answer"]}, "heads=answer: expected some of mlm, itm, qa"),
        ({"heads": []}, "heads=: expected some"),
        ({"vision_layers": [1, 1, 1]}, r"vision_layers=\[1, 1, 1\]: expected an even width and four stages"),
        ({"vision_width": 3}, "vision_width=3"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused_in_a_line(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as error:
        ClipVil(config(**options))
    assert "\n" not in str(error.value)


def test_images_that_do_not_match_texts_or_positions_are_refused(model: ClipVil) -> None:
    batch = example(1, 5)
    with pytest.raises(ValueError, match="1 texts and 2 images do not match"):
        model(batch | {"pixels": batch["pixels"].repeat(2, 1, 1, 1)})
    with pytest.raises(ConfigError, match="pos_num=4: an image has 2 x 5 grid cells .* expected at most 4 a side"):
        model(example(1, 5, width=160))
    with pytest.raises(ValueError, match="multiples of 32"):
        model(example(1, 5, width=90))
