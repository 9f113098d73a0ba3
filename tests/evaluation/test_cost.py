"""Parameters and operations of a model."""

from pathlib import Path

from tests.evaluation.toy import NLVR2, statements
from tests.training.toy import config
from vlx.evaluation.cost import cost_of
from vlx.recipes.build import new_task_model


def test_the_operations_of_a_layer_are_those_counted_by_hand(folder: Path) -> None:
    dataset = statements(folder)[1].first(1)
    deep, shallow = (
        cost_of(new_task_model(config(layers=layers), NLVR2, dataset.corpus).model, dataset) for layers in (2, 1)
    )
    positions = dataset.batch([0])["packing"].shape[1]
    width = inner = 16
    linear = 4 * width * width + 2 * width * inner  # query, key, value, output; in, out
    flops = 2 * (2 * positions * linear + 4 * positions * positions * width)  # two images; scores and mixture
    assert deep.flops - shallow.flops == flops
    norms = 4 * width  # weights and biases of two
    assert deep.parameters - shallow.parameters == linear + 4 * width + inner + width + norms
    assert 0 < deep.latency_ms <= deep.latency_p95_ms
