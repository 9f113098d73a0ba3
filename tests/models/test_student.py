"""A student starts from the teacher layers that its strategy names."""

import pytest
import torch

from tests.models.test_oscar import config
from vlx.errors import ConfigError
from vlx.models.oscar import Oscar
from vlx.models.student import depths, layer_map, student_from


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("first", [[0], [1], [2], [3], [4], [5]]),
        ("last", [[6], [7], [8], [9], [10], [11]]),
        ("skip", [[1], [3], [5], [7], [9], [11]]),
        ("mean", [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]),
    ],
)
def test_layer_maps_of_six_in_twelve_are_the_originals(strategy: str, expected: list[list[int]]) -> None:
    assert layer_map(strategy, 6, 12) == expected


def test_more_student_than_teacher_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="student_layers=5: expected at most the teacher's layers, 4"):
        layer_map("first", 5, 4)


@pytest.mark.parametrize("layers", [(6, 12), (4, 12), (3, 12), (3, 6), (5, 12), (3, 4), (4, 4), (7, 9)])
def test_every_ratio_of_depths_has_its_map(layers: tuple[int, int]) -> None:
    """Each teacher layer belongs to one student layer (mean); skip takes the last of each."""
    student, teacher = layers
    shares = layer_map("mean", student, teacher)
    assert [layer for share in shares for layer in share] == list(range(teacher)) and all(shares)
    assert layer_map("skip", student, teacher) == [share[-1:] for share in shares]
    assert {len(share) for share in shares} <= {teacher // student, -(-teacher // student)}


def test_a_ratio_that_is_no_whole_number_takes_the_nearest_layer() -> None:
    # 12/5 = 2.4: 2.4 4.8 7.2 9.6 12 are nearest to 2 5 7 10 12; 4/3: 1.33 2.67 4 to 1 3 4; halves up: 1.5 of 3/2 to 2
    assert depths(5, 12) == [0, 2, 5, 7, 10, 12] and depths(3, 4) == [0, 1, 3, 4] and depths(2, 3) == [0, 2, 3]
    assert depths(3, 6) == [0, 2, 4, 6] and layer_map("skip", 3, 4) == [[0], [2], [3]]


@pytest.mark.parametrize(("init", "source"), [("first", [0, 1]), ("last", [2, 3]), ("skip", [1, 3])])
def test_student_copies_the_layers_and_everything_else(init: str, source: list[int]) -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    student = student_from(teacher, layers=2, init=init, seed=0)
    weights = teacher.state_dict()
    name = "bert.encoder.layer.{}.output.dense.weight"
    for layer, teacher_layer in enumerate(source):
        assert torch.equal(student.state_dict()[name.format(layer)], weights[name.format(teacher_layer)])
    assert torch.equal(student.classifier[0].weight, teacher.classifier[0].weight)
    assert teacher.config.num_hidden_layers == 4


def test_init_mean_averages_two_layers_and_init_none_copies_all_but_the_layers() -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    mean, none = (student_from(teacher, layers=2, init=init, seed=0).state_dict() for init in ("mean", "none"))
    weights = teacher.state_dict()
    name = "bert.encoder.layer.{}.output.dense.weight"
    for layer in (0, 1):
        pair = [weights[name.format(2 * layer + offset)] for offset in (0, 1)]
        torch.testing.assert_close(mean[name.format(layer)], (pair[0] + pair[1]) / 2)
        assert not any(torch.equal(none[name.format(layer)], weight) for weight in pair)
    rest = [key for key in none if ".layer." not in key]
    assert rest and all(torch.equal(none[key], weights[key]) and torch.equal(mean[key], weights[key]) for key in rest)


def test_a_narrow_student_keeps_the_heads_and_the_proportions() -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    half = teacher.config.hidden_size // 2
    student = student_from(teacher, layers=2, init="random", seed=0, hidden_size=half)
    assert student.config.hidden_size == half and student.bert.img_embedding.weight.shape[0] == half
    assert student.config.num_attention_heads == teacher.config.num_attention_heads
    assert student.config.intermediate_size == teacher.config.intermediate_size // 2
    with pytest.raises(ConfigError, match="do not fit student_hidden_size=.*give student_init=random"):
        student_from(teacher, layers=2, init="first", seed=0, hidden_size=half)
    with pytest.raises(ConfigError, match="expected a multiple of the teacher's 4 heads"):
        student_from(teacher, layers=2, init="random", seed=0, hidden_size=7)


def test_random_student_depends_on_the_seed_alone() -> None:
    teacher = Oscar(config(num_hidden_layers=4))
    first, second = (student_from(teacher, layers=2, init="random", seed=3).state_dict() for _ in range(2))
    different = student_from(teacher, layers=2, init="random", seed=4).state_dict()
    name = "bert.img_embedding.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], different[name])
    assert not torch.equal(first[name], teacher.state_dict()[name])
