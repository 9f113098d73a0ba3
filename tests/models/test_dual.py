"""Two towers: what each makes of its side does not depend on the other, nor on padding."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from tests.models.test_registered import SIZES, batch_of
from vlx import models
from vlx.models import Head
from vlx.models.dual import Dual

PAIR = Head("classify", 2)


@pytest.fixture
def model() -> Dual:
    return models.build("dual", PAIR, SIZES, seed=0).eval()


def test_a_pair_scores_the_scaled_cosine_of_its_vectors(model: Dual) -> None:
    found = model(batch_of(3, 1))
    texts, pictures, match = (found.scores[name] for name in ("texts", "pictures", "match"))
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(match[0, 2], F.cosine_similarity(texts[0], pictures[2], dim=0) / 0.07)
    torch.testing.assert_close(found.logits[:, 1], match.diagonal())
    assert found.logits[:, 0].tolist() == [0, 0, 0] and torch.equal(found.pooled, torch.cat([texts, pictures], -1))


def test_the_scale_ends_at_a_hundred(model: Dual) -> None:
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    one = F.normalize(torch.rand(1, 16), dim=-1)
    assert model.match(one, one).item() == pytest.approx(100, rel=1e-4)


def test_padding_changes_no_vector(model: Dual) -> None:
    short, long = batch_of(2, 1), batch_of(2, 1)
    for name, fill in {"input_ids": 0, "text_mask": False, "regions": 9.0, "boxes": 1.0, "region_mask": False}.items():
        extra = torch.full((2, 1, 3, *long[name].shape[3:]), fill, dtype=long[name].dtype)
        long[name] = torch.cat([long[name], extra], 2)
    torch.testing.assert_close(model(long).pooled, model(short).pooled)


def test_each_tower_reads_its_own_side_alone(model: Dual) -> None:
    batch = batch_of(2, 1)
    apart = (
        {name: batch[name] for name in ("input_ids", "text_mask")},
        {name: batch[name] for name in ("regions", "boxes", "region_mask")},
    )
    found = model(batch).scores
    assert torch.equal(model.texts(apart[0]), found["texts"])
    assert torch.equal(model.pictures(apart[1]), found["pictures"])


def test_a_picture_without_regions_gives_finite_scores_and_gradients(model: Dual) -> None:
    batch = batch_of(2, 1)
    match = model(batch | {"region_mask": torch.zeros_like(batch["region_mask"])}).scores["match"]
    match.sum().backward()
    assert match.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def test_saved_and_loaded_gives_the_same_scores(model: Dual, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(again, Dual) and again.config.region_layers == 1
    assert torch.equal(model(batch_of(2, 1)).logits, again(batch_of(2, 1)).logits)
