"""LXMERT's files are read and written unchanged, transformers agrees, and files that do not fit are refused."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from tests.models.test_lxmert import build, example, joined, padded
from vlx.checkpoints import answer_rows
from vlx.checkpoints.originals.lxmert import (
    NOT_IN_BERT,
    export_original,
    export_transformers,
    infer,
    load_lxmert,
    load_lxmert_pretraining,
)
from vlx.errors import CheckpointError
from vlx.models.lxmert import HEADS, Lxmert, LxmertConfig, LxmertForPreTraining

SIZES = {"num_attention_heads": 4}  # shapes do not give it
Weights = dict[str, Tensor]
HEAD = [f"{n}.{part}" for n in (0, 2, 3) for part in ("weight", "bias")]


@pytest.fixture
def tuned() -> Lxmert:
    return build(Lxmert)


@pytest.fixture
def trained() -> LxmertForPreTraining:
    return build(LxmertForPreTraining)


def write(path: Path, weights: Weights) -> Path:
    torch.save(weights, path)
    return path


def same(model: torch.nn.Module, weights: Weights) -> bool:
    state = model.state_dict()
    return state.keys() == weights.keys() and all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def inputs(batch: Weights) -> Weights:
    """The batch for transformers' models."""
    return {
        "input_ids": batch["input_ids"],
        "visual_feats": batch["regions"],
        "visual_pos": batch["boxes"],
        "attention_mask": batch["text_mask"].float(),
        "visual_attention_mask": batch["region_mask"].float(),
    }


@pytest.mark.parametrize("options", [{}, {"num_images": 2, "num_labels": 2}])
def test_the_round_trip_of_a_fine_tuned_file_is_exact(options: dict[str, int], tmp_path: Path) -> None:
    model = build(Lxmert, **options)
    weights = export_original(model)
    assert "lxrt_encoder.model.bert.encoder.x_layers.1.visual_attention.att.query.weight" in weights
    loaded, report = load_lxmert(write(tmp_path / "BEST.pth", weights), **SIZES)
    assert report.share == 1.0 and not report.missing and not report.unexpected
    assert same(loaded, model.state_dict()) and export_original(loaded).keys() == weights.keys()
    assert (loaded.config.num_images, loaded.config.num_labels) == (model.config.num_images, model.config.num_labels)
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "region_layers", "cross_layers", "intermediate_size")
    assert all(getattr(loaded.config, name) == getattr(model.config, name) for name in sizes)


@pytest.mark.parametrize(
    "options", [{}, {"num_qa_labels": 0}, {"visual_losses": ["attr", "feat"]}, {"region_layers": 0}]
)
def test_the_round_trip_of_a_pre_training_file_is_exact(options: dict[str, object], tmp_path: Path) -> None:
    model = build(LxmertForPreTraining, **options)
    loaded, report = load_lxmert_pretraining(write(tmp_path / "Epoch20_LXRT.pth", export_original(model)), **SIZES)
    assert report.share == 1.0 and not report.missing and not report.unexpected
    assert same(loaded, model.state_dict()) and same(loaded, export_original(model))


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (LxmertForPreTraining, "", "module."),
        (Lxmert, "", "module."),
        (Lxmert, "lxrt_encoder.model.", "lxrt_encoder.model.module."),
    ],
)
def test_files_of_several_devices_load_like_those_of_one_device(kind: type, old: str, new: str, tmp_path: Path) -> None:
    model = build(kind)
    weights = {name.replace(old, new, 1): tensor for name, tensor in export_original(model).items()}
    load = load_lxmert if kind is Lxmert else load_lxmert_pretraining
    assert same(load(write(tmp_path / "several.pth", weights), **SIZES)[0], model.state_dict())


def test_half_precision_is_read_into_single(tuned: Lxmert, tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in export_original(tuned).items()}
    loaded, _ = load_lxmert(write(tmp_path / "half.pth", halves), **SIZES)
    assert same(loaded, {name: tensor.half().float() for name, tensor in tuned.state_dict().items()})


def test_a_pre_training_file_gives_a_fine_tuning_model_all_weights_but_the_head(
    trained: LxmertForPreTraining, tmp_path: Path
) -> None:
    path = write(tmp_path / "model_LXRT.pth", export_original(trained))
    pair, report = load_lxmert(path, new_head=True, num_images=2, num_labels=2, **SIZES)
    assert len(report.missing) == 6 and all(name.startswith("logit_fc.") for name in report.missing)
    backbone = {name: tensor for name, tensor in trained.state_dict().items() if name.startswith("bert.")}
    assert all(torch.equal(pair.state_dict()[name], tensor) for name, tensor in backbone.items())
    assert pair.eval()(example(1, 5, 3, images=2)).logits.shape == (1, 2)
    answering, _ = load_lxmert(path, **SIZES)  # with the answers of pre-training
    batch = example(1, 5, 3)
    torch.testing.assert_close(answering.eval()(batch).logits, trained(batch, heads=("qa",)).logits)


def test_rows_of_pretraining_answers_are_copied_and_new_answers_get_zeros(
    trained: LxmertForPreTraining, tmp_path: Path
) -> None:
    path = write(tmp_path / "model_LXRT.pth", export_original(trained))
    table = ["man", "2", "gray", "yes", *(f"answer {n}" for n in range(7))]
    model, report = load_lxmert(path, answers=(table, ["Yes", "the man", "unheard of", "two", ""]), **SIZES)
    layer = model.logit_fc[3]
    source = trained.answer_head["logit_fc"][3]
    for rows, source_rows in ((layer.weight, source.weight), (layer.bias, source.bias)):
        assert torch.equal(rows[[0, 1, 3]], source_rows[[3, 0, 1]]) and not rows[[2, 4]].any()
    assert torch.equal(model.logit_fc[0].weight, trained.answer_head["logit_fc"][0].weight)
    assert "3 of 5 answers known" in report.summary() and model.config.num_labels == 5
    with pytest.raises(CheckpointError, match="10 answers of pre-training for a head of 11"):
        answer_rows(source.weight, table[1:], ["yes"])


def test_a_plain_bert_initializes_the_language_stream(trained: LxmertForPreTraining, tmp_path: Path) -> None:
    exported = export_original(trained)
    bert = {name: tensor for name, tensor in exported.items() if not name.startswith(NOT_IN_BERT)}
    bert |= {"cls.predictions.decoder.bias": torch.zeros(50), "bert.embeddings.position_ids": torch.arange(40)[None]}
    del bert["cls.predictions.decoder.weight"]
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in bert.items()}
    entries = {"num_hidden_layers": 2, "visual_feat_dim": 8, "region_layers": 1, "cross_layers": 1, **SIZES}
    model, report = load_lxmert_pretraining(write(tmp_path / "bert.bin", old), new_prefixes=NOT_IN_BERT, **entries)
    assert all(name.startswith(NOT_IN_BERT) for name in report.missing)
    assert sum(".layer.2." in name for name in report.unexpected) == 16
    weights = model.state_dict()
    names = {name for name in bert if name in weights}
    assert len(names) == 5 + 2 * 16 + 2 + 7 and all(torch.equal(weights[name], bert[name]) for name in names)
    assert torch.equal(weights["cls.predictions.decoder.weight"], exported["bert.embeddings.word_embeddings.weight"])


def batch_of_two() -> Weights:
    return joined([padded(example(1, 5, 3), 9, 6), padded(example(2, 9, 6), 9, 6)])


def test_transformers_loads_an_exported_pre_training_model(trained: LxmertForPreTraining) -> None:
    settings, weights = export_transformers(trained)
    reference = transformers.LxmertForPreTraining(settings)
    reference.load_state_dict(weights, strict=True)
    batch = batch_of_two()
    scores = trained(batch, heads=tuple(HEADS)).scores
    expected = reference.eval()(**inputs(batch))
    names = {"mlm": "prediction_logits", "itm": "cross_relationship_score", "qa": "question_answering_score"}
    for name, old in names.items():
        torch.testing.assert_close(scores[name], expected[old], atol=1e-5, rtol=1e-4)
    region_scores = reference.obj_predict_head(reference.lxmert(**inputs(batch)).vision_output)
    for name, old in {"mrc_objects": "obj", "mrc_attributes": "attr", "mrfr": "feat"}.items():
        torch.testing.assert_close(scores[name], region_scores[old], atol=1e-5, rtol=1e-4)
    assert settings.visual_loss_normalizer == 1 / 0.15


def test_transformers_loads_an_exported_fine_tuned_model(tuned: Lxmert) -> None:
    settings, weights = export_transformers(tuned)
    reference = transformers.LxmertForQuestionAnswering(settings)
    reference.load_state_dict(weights, strict=True)
    batch = batch_of_two()
    expected = reference.eval()(**inputs(batch)).question_answering_score
    torch.testing.assert_close(tuned(batch).logits, expected, atol=1e-5, rtol=1e-4)
    settings, weights = export_transformers(build(Lxmert, num_images=2))
    backbone = {name.removeprefix("lxmert."): tensor for name, tensor in weights.items()}
    transformers.LxmertModel(settings).load_state_dict(backbone, strict=True)


KINDS = [transformers.LxmertForPreTraining, transformers.LxmertForQuestionAnswering, transformers.LxmertModel]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_transformers_is_loaded(kind: type, tmp_path: Path) -> None:
    settings, _ = export_transformers(build(Lxmert))
    torch.manual_seed(1)
    reference = kind(settings).eval()
    batch = batch_of_two()
    reference.save_pretrained(tmp_path)
    headless = kind is transformers.LxmertModel
    model, report = load_lxmert(tmp_path, new_head=headless)
    output = model.eval()(batch, output_hidden=True)
    expected = reference(**inputs(batch))
    assert model.config.num_attention_heads == 4 and not set(report.missing) - {f"logit_fc.{n}" for n in HEAD}
    if headless:
        torch.testing.assert_close(output.text_hidden, expected.language_output, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.region_hidden, expected.vision_output, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.pooled, expected.pooled_output, atol=1e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(output.logits, expected.question_answering_score, atol=1e-5, rtol=1e-4)
    if kind is transformers.LxmertForPreTraining:
        mlm = load_lxmert_pretraining(tmp_path)[0].eval()(batch, heads=("mlm",)).logits
        torch.testing.assert_close(mlm, expected.prediction_logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda weights: weights.pop("lxrt_encoder.model.bert.pooler.dense.weight"), "1 missing.*bert.pooler.dense"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "first key at fault: extra"),
        (lambda weights: weights.update({"logit_fc.2.bias": torch.zeros(5)}), r"\(5,\) in the file, \(48,\) in the"),
        (
            lambda weights: [weights.pop(f"logit_fc.{name}") for name in HEAD],
            "no answer head in it; expected a fine-tuned file",
        ),
        (lambda weights: weights.pop("lxrt_encoder.model.bert.embeddings.word_embeddings.weight"), "no bert.embed"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tuned: Lxmert, tmp_path: Path, edit: object, fault: str
) -> None:
    weights = export_original(tuned)
    edit(weights)
    with pytest.raises(CheckpointError, match=fault) as error:
        load_lxmert(write(tmp_path / "wrong.pth", weights), **SIZES)
    assert "\n" not in str(error.value)


def test_another_size_or_a_truncated_file_is_refused(tuned: Lxmert, tmp_path: Path) -> None:
    path = write(tmp_path / "BEST.pth", export_original(tuned))
    with pytest.raises(CheckpointError, match=r"\(50, 24\) in the file, \(50, 32\) in the model"):
        load_lxmert(path, hidden_size=32, **SIZES)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="BEST.pth: not a readable weights file"):
        load_lxmert(path, **SIZES)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[1]", "not transformers' configuration"), ('{"hidden_act": "relu"}', "hidden_act=relu; expected")],
)
def test_a_folder_that_is_not_transformers_lxmert_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(CheckpointError, match="config.json"):
        load_lxmert(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=fault):
        load_lxmert(tmp_path)


def test_the_published_configuration_is_inferred_from_its_shapes() -> None:
    with torch.device("meta"):
        model = LxmertForPreTraining(LxmertConfig())
    inferred = infer(model.state_dict(), Path("model_LXRT.pth"))
    assert {name: getattr(model.config, name) for name in inferred} == inferred | {
        "visual_losses": ("obj", "attr", "feat")
    }
