"""A checkpoint loads in full or is refused in one line, and no code in it is executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests.models.test_oscar import config, example
from vlx import checkpoints
from vlx.checkpoints import Loaded, LoadReport
from vlx.errors import CheckpointError
from vlx.models.oscar import Oscar
from vlx.preprocessing import Preprocessing
from vlx.tokenization import SPECIAL, WordPiece


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, Oscar]:
    """A folder as the original saves it, gamma and beta and the pre-training head included."""
    model = Oscar(config(num_choice=2, cls_hidden_scale=3)).eval()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, tensor in model.state_dict().items():
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        weights[name] = tensor
    torch.save(weights | {"cls.predictions.bias": torch.zeros(50)}, tmp_path / "pytorch_model.bin")
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_choice", "num_attention_heads", "intermediate_size",
        "classifier", "img_feature_dim", "cls_hidden_scale", "max_position_embeddings", "num_labels",
    )  # fmt: skip
    entries = {name: getattr(model.config, name) for name in names} | {"torchscript": False}
    (tmp_path / "config.json").write_text(json.dumps(entries))
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *map(str, range(45))]) + "\n")
    return tmp_path, model


def test_an_original_folder_gives_its_logits_and_a_report(original: tuple[Path, Oscar]) -> None:
    folder, model = original
    loaded = checkpoints.load(folder)
    batch = example(1, 6, (3, 4))
    assert torch.equal(loaded.model.eval()(batch).logits, model(batch).logits)
    assert loaded.report.share == 1.0
    assert loaded.report.unexpected == ["cls.predictions.bias"]
    assert len(loaded.report.renamed) == 14  # two of each of seven LayerNorms
    assert (loaded.preprocessing.task, loaded.preprocessing.region_dim) == ("nlvr2", 8)
    assert (loaded.spec.name, loaded.uri) == ("oscar", str(folder))


def test_the_round_trip_of_a_model_folder_is_exact(original: tuple[Path, Oscar], tmp_path: Path) -> None:
    _, model = original
    preprocessing = Preprocessing(
        architecture="oscar", task="nlvr2", answers=("False", "True"), num_images=2, max_text_tokens=30,
        data_fingerprint="abc", objectives=("mlm", "itm"),
    )  # fmt: skip
    tokenizer = WordPiece.train(["a b"], size=50)
    folder = tmp_path / "folder"
    checkpoints.save(folder, Loaded(model, tokenizer, preprocessing, LoadReport("from scratch")))
    loaded = checkpoints.load(folder)
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert loaded.preprocessing == preprocessing and not loaded.report.renamed
    assert loaded.wordpiece.vocab == tokenizer.vocab
    ids = AutoTokenizer.from_pretrained(folder)("b a")["input_ids"]
    assert ids == tokenizer.encode(["b a"], limit=9)[0]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "vlx.json: not JSON"),
        ("[]", "expected an object with some of architecture, task, answers"),
        (
            '{"architecture": "oscar", "max_text_tokens": 9, "colour": 1}',
            "expected an object with some of architecture",
        ),
        ('{"architecture": "oscar"}', "max_text_tokens"),
        ('{"architecture": "oscar", "max_text_tokens": "9"}', "max_text_tokens is '9', expected int"),
        (
            '{"architecture": "oscar", "max_text_tokens": 9, "answers": [1]}',
            r"answers is \[1\], expected a list of str",
        ),
    ],
)
def test_damaged_preprocessing_is_refused_in_one_line(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "vlx.json").write_text(content)
    with pytest.raises(CheckpointError, match=fault) as error:
        checkpoints.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_without_a_vocabulary_has_no_wordpiece(original: tuple[Path, Oscar], tmp_path: Path) -> None:
    preprocessing = Preprocessing(architecture="oscar", max_text_tokens=30)
    checkpoints.save(tmp_path / "folder", Loaded(original[1], None, preprocessing, LoadReport("from scratch")))
    loaded = checkpoints.load(tmp_path / "folder")
    assert loaded.tokenizer is None
    with pytest.raises(CheckpointError, match="folder: oscar has no WordPiece vocabulary"):
        loaded.wordpiece  # noqa: B018


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no vlx.json and no pytorch_model.bin there; expected a model folder"):
        checkpoints.load(tmp_path)


def change(folder: Path, edit: object) -> None:
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    edit(weights)
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda weights: weights.pop("bert.pooler.dense.weight"), "1 missing.*bert.pooler.dense.weight"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "first key at fault: extra"),
        (lambda weights: weights.update({"bert.pooler.dense.bias": torch.zeros(5)}), r"\(5,\) in the file, \(32,\) in"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(original: tuple[Path, Oscar], edit: object, fault: str) -> None:
    change(original[0], edit)
    with pytest.raises(CheckpointError, match=fault):
        checkpoints.load(original[0])


def test_a_missing_head_is_an_error_without_new_head(original: tuple[Path, Oscar]) -> None:
    def behead(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("classifier.")]:
            del weights[name]

    change(original[0], behead)
    with pytest.raises(CheckpointError, match="classifier"):
        checkpoints.load(original[0])
    assert checkpoints.load(original[0], new_head=True).report.share < 1


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"PK\x03\x04 not a zip", pickle.dumps({"a": 1})])
def test_a_hostile_or_broken_file_is_refused_and_not_executed(original: tuple[Path, Oscar], content: bytes) -> None:
    (original[0] / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        checkpoints.load(original[0])
    assert "\n" not in str(error.value)
    assert not Path("exploded").exists()


def test_a_damaged_or_missing_configuration_is_refused(original: tuple[Path, Oscar]) -> None:
    (original[0] / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="not an Oscar configuration"):
        checkpoints.load(original[0])
    (original[0] / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json"):
        checkpoints.load(original[0])
