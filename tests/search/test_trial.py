"""How the settings of a trial are drawn."""

import optuna

from vlx.config import SearchConfig
from vlx.search.trial import seed_sampler


def draw(study: optuna.Study, trial: optuna.Trial) -> float:
    seed_sampler(study, SearchConfig(sampler="random"), number=trial.number)
    return trial.suggest_float("alpha", 0, 1)


def test_trials_begun_at_the_same_moment_draw_other_settings() -> None:
    study = optuna.create_study()
    together = [study.ask() for _ in range(3)]
    values = [draw(study, trial) for trial in together]
    assert len(set(values)) == 3
    one_by_one = optuna.create_study()
    assert [draw(one_by_one, one_by_one.ask()) for _ in range(3)] == values
