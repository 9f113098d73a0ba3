"""A model of one task starts another with a new head and everything else as it was."""

import pytest
import torch

from tests.models.test_registered import SIZES, batch_of
from vlx import models
from vlx.models import Head
from vlx.objectives.supervised import logits_of

HEADS = [
    (Head("classify", 5), 1, 5),
    (Head("classify", 2, 2), 2, 2),
    (Head("point", 1), 1, 5),
    (Head("choose", 1), 3, 3),
]


@pytest.mark.parametrize("system", models.SYSTEMS)
@pytest.mark.parametrize(("head", "pairs", "width"), HEADS)
def test_all_but_the_head_is_kept(system: str, head: Head, pairs: int, width: int) -> None:
    old = models.build(system, Head("classify", 3), SIZES, seed=0)
    new, same, other = (models.with_new_head(old, system, head, seed=seed) for seed in (1, 1, 2))
    begins = models.HEADS[system]
    before, after = old.state_dict(), new.state_dict()
    assert {name for name in after if not name.startswith(begins)} == {n for n in before if not n.startswith(begins)}
    assert all(torch.equal(after[name], before[name]) for name in after if not name.startswith(begins))
    drawn = [name for name in after if name.startswith(begins) and after[name].ndim > 1]
    assert drawn and all(torch.equal(after[name], same.state_dict()[name]) for name in drawn)
    assert any(not torch.equal(after[name], other.state_dict()[name]) for name in drawn)
    assert logits_of(new, batch_of(2, pairs)).shape == (2, width)
