"""A score depends neither on the batch size nor on how many processes share the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.toy import captions, statements
from vlx.evaluation.predict import predict

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import PartialState
state = PartialState(cpu=True)
from tests.evaluation.toy import captions, statements
from vlx.evaluation.predict import predict
folder = Path(sys.argv[1])
model, dataset = statements(folder)
scores = dataset.task.score(dataset.examples, predict(model, dataset))
model, dataset = captions(folder)
scores |= dataset.task.score(dataset.examples, predict(model, dataset))
scores["dual"] = float(predict(*captions(folder, "dual")).sum())
(folder / f"scores-{state.process_index}.json").write_text(json.dumps([state.num_processes, scores]))
"""


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_of_any_size_give_the_same_scores(folder: Path, batch_size: int) -> None:
    for model, dataset in (statements(folder), captions(folder), captions(folder, "dual")):
        expected = predict(model, dataset)
        actual = predict(model, dataset, batch_size=batch_size)
        np.testing.assert_allclose(actual, expected, atol=1e-6, rtol=1e-6)
        score = dataset.task.score
        assert score(dataset.examples, actual) == score(dataset.examples, expected)


def scores_of_processes(folder: Path, processes: int) -> list:
    """The number of processes and the scores, as each process has them. With one thread each, sums agree."""
    (folder / "score.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launch, str(folder / "score.py"), str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads((folder / f"scores-{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_give_the_same_scores_as_one(folder: Path) -> None:
    ((processes, expected),) = scores_of_processes(folder, 1)
    assert processes == 1 and len(expected) > 6
    assert scores_of_processes(folder, 2) == [[2, expected], [2, expected]]
