"""A dual encoder: the vector of a text or an image depends neither on the other nor on padding."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from tests.models.helpers import batch_of, build
from vlx.models.dual import Dual

TEXT_KEYS = ("input_ids", "text_mask")
IMAGE_KEYS = ("regions", "boxes", "region_mask")


@pytest.fixture
def model() -> Dual:
    return build("dual").eval()


def test_a_pair_scores_the_scaled_cosine_of_its_vectors(model: Dual) -> None:
    output = model(batch_of(3, 1))
    texts, images = output.pooled.chunk(2, -1)
    similarity = output.scores["similarity"]
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(similarity[0, 2], F.cosine_similarity(texts[0], images[2], dim=0) / 0.07)
    torch.testing.assert_close(output.logits[:, 1], similarity.diagonal())
    assert output.logits[:, 0].tolist() == [0, 0, 0]


def test_the_scale_ends_at_a_hundred(model: Dual) -> None:
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    vector = F.normalize(torch.rand(1, 16), dim=-1)
    assert model.similarity(vector, vector).item() == pytest.approx(100, rel=1e-4)


def test_padding_changes_no_vector(model: Dual) -> None:
    short = batch_of(2, 1)
    long = batch_of(2, 1)
    for name, fill in {"input_ids": 0, "text_mask": False, "regions": 9.0, "boxes": 1.0, "region_mask": False}.items():
        extra = torch.full((2, 1, 3, *long[name].shape[3:]), fill, dtype=long[name].dtype)
        long[name] = torch.cat([long[name], extra], 2)
    torch.testing.assert_close(model(long).pooled, model(short).pooled)


def test_text_and_image_are_encoded_apart(model: Dual) -> None:
    batch = batch_of(2, 1)
    texts, images = model(batch).pooled.chunk(2, -1)
    assert torch.equal(model.encode_texts({name: batch[name] for name in TEXT_KEYS}), texts)
    assert torch.equal(model.encode_images({name: batch[name] for name in IMAGE_KEYS}), images)


def test_an_image_without_regions_gives_finite_scores_and_gradients(model: Dual) -> None:
    batch = batch_of(2, 1)
    similarity = model(batch | {"region_mask": torch.zeros_like(batch["region_mask"])}).scores["similarity"]
    similarity.sum().backward()
    assert similarity.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_a_saved_and_loaded_model_gives_the_same_scores(model: Dual, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, Dual) and loaded.config.region_layers == 1
    assert torch.equal(model(batch_of(2, 1)).logits, loaded(batch_of(2, 1)).logits)
