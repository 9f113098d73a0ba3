"""A model of one task starts another with a new head and all other weights as they were."""

import pytest
import torch

from tests.models.helpers import REGION_ENCODERS, batch_of, build
from vlx.models.create import with_new_head
from vlx.models.heads import Head
from vlx.models.spec import load_spec
from vlx.objectives.supervised import logits_of

HEADS = [
    (Head("classify", 5), 1, 5),
    (Head("classify", 2, 2), 2, 2),
    (Head("grounding", 1), 1, 5),
    (Head("multiple_choice", 1), 3, 3),
]


@pytest.mark.parametrize("name", REGION_ENCODERS)
@pytest.mark.parametrize(("head", "pairs", "width"), HEADS)
def test_all_weights_but_the_head_stay(name: str, head: Head, pairs: int, width: int) -> None:
    spec = load_spec(name)
    old = build(name, Head("classify", 3))
    new, repeated, different = (with_new_head(spec, old, head, seed=seed) for seed in (1, 1, 2))
    before = {key: weight for key, weight in old.state_dict().items() if not spec.is_head(key)}
    after = new.state_dict()
    assert {key for key in after if not spec.is_head(key)} == before.keys()
    assert all(torch.equal(after[key], weight) for key, weight in before.items())
    matrices = [key for key in after if spec.is_head(key) and after[key].ndim > 1]
    assert matrices and all(torch.equal(after[key], repeated.state_dict()[key]) for key in matrices)
    assert any(not torch.equal(after[key], different.state_dict()[key]) for key in matrices)
    assert logits_of(new, batch_of(2, pairs)).shape == (2, width)
