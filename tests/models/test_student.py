"""A student starts from the teacher layers its strategy names."""

import pytest
import torch

from tests.models.test_oscar import config
from vlx.errors import ConfigError
from vlx.models.oscar import Oscar
from vlx.models.student import layer_map, student_from


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("first", [[0], [1], [2], [3], [4], [5]]),
        ("last", [[6], [7], [8], [9], [10], [11]]),
        ("skip", [[1], [3], [5], [7], [9], [11]]),
        ("both", [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
    ],
)
def test_layer_maps_of_six_in_twelve_are_the_originals(strategy: str, expected: list[list[int]]) -> None:
    assert layer_map(strategy, 6, 12) == expected


def test_more_student_than_teacher_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="student_layers=5: expected at most the teacher's layers, 4"):
        layer_map("first", 5, 4)


def test_skip_needs_a_divisor() -> None:
    with pytest.raises(ConfigError, match="divide the teacher's 4 layers"):
        layer_map("skip", 3, 4)


@pytest.mark.parametrize(("init", "source"), [("first", [0, 1]), ("last", [2, 3]), ("skip", [1, 3])])
def test_student_copies_the_layers_and_everything_else(init: str, source: list[int]) -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    student = student_from(teacher, layers=2, init=init, seed=0)
    theirs = teacher.state_dict()
    for index, other in enumerate(source):
        name = "bert.encoder.layer.{}.output.dense.weight"
        assert torch.equal(student.state_dict()[name.format(index)], theirs[name.format(other)])
    assert torch.equal(student.classifier[0].weight, teacher.classifier[0].weight)
    assert teacher.config.num_hidden_layers == 4


def test_random_student_depends_on_the_seed_alone() -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    one, two = (student_from(teacher, layers=2, init="random", seed=3).state_dict() for _ in range(2))
    other = student_from(teacher, layers=2, init="random", seed=4).state_dict()
    name = "bert.img_embedding.weight"
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], teacher.state_dict()[name])
