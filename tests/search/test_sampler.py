"""The sampler: Optuna's own contract, stock partners, and the plan's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from mordal_optuna.objective import Objective
from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import STOPPED_BECAUSE, CkaClusterSampler
from tests.search.synthetic import ENCODERS, FULL, LLMS, RUNGS, plan, search, table, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.samplers import BaseSampler


class TestContract(BasicSamplerTestCase):
    """Everything Optuna asks of a sampler."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        """Over the synthetic pool."""
        return lambda: CkaClusterSampler(plan(), seed=0)


class TestRelativeContract(RelativeSamplerTestCase):
    """The same around a sampler that samples jointly."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        """With a joint sampler for the rest."""
        other = TPESampler(multivariate=True, n_startup_trials=0, seed=0)
        return lambda: CkaClusterSampler(plan(), independent_sampler=other)


def test_the_first_proposals_are_the_medoids() -> None:
    study = optuna.create_study(sampler=CkaClusterSampler(plan()), direction="maximize")
    for cluster in tree().clusters:
        trial = study.ask()
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        assert pair == cluster.candidates[0]


def test_a_finished_study_gives_the_leader_at_no_cost_and_stops() -> None:
    measure = table()
    study = search(plan(), measure)
    runs, trials = list(measure.runs), len(study.trials)
    study.optimize(Objective(plan(), measure), n_trials=50)
    assert measure.runs == runs
    assert len(study.trials) == trials + 1
    last = study.trials[-1]
    assert candidate_of(last) == Candidate("siglip", "qwen")
    assert set(last.intermediate_values) == {*RUNGS, FULL}


def test_further_parameters_go_to_the_other_sampler() -> None:
    study = optuna.create_study(sampler=CkaClusterSampler(plan(), seed=1), direction="maximize")
    rates = set()
    for _ in range(4):
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        rates.add(trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True))
    assert len(rates) == 4
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)


def test_works_with_a_stock_pruner_and_without_one() -> None:
    for pruner in (HyperbandPruner(RUNGS[0], FULL, 2), NopPruner()):
        measure = table()
        study = optuna.create_study(
            direction="maximize", sampler=CkaClusterSampler(plan()), pruner=pruner
        )
        study.optimize(Objective(plan(), measure), n_trials=60)
        assert len(measure.runs) == len(set(measure.runs))
        assert STOPPED_BECAUSE in study.user_attrs


def test_enqueued_trials_keep_their_pair() -> None:
    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(plan()),
        pruner=LogLinearHalvingPruner(plan()),
    )
    study.enqueue_trial({"vision_encoder": "dino", "llm": "qwen"})
    measure = table()
    study.optimize(Objective(plan(), measure), n_trials=60)
    assert measure.runs[0] == (Candidate("dino", "qwen"), RUNGS[0])
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


def test_an_interrupted_study_goes_on_without_repeating_a_rung(tmp_path) -> None:  # noqa: ANN001
    """Stopped after every few trials and opened again from its storage, it does the same work."""
    whole = table()
    search(plan(), whole)
    storage, pieces = f"sqlite:///{tmp_path / 'study.db'}", table()
    for _ in range(40):
        study = optuna.create_study(
            study_name="s",
            storage=storage,
            load_if_exists=True,
            direction="maximize",
            sampler=CkaClusterSampler(plan()),
            pruner=LogLinearHalvingPruner(plan()),
        )
        study.optimize(Objective(plan(), pieces), n_trials=1)
        if STOPPED_BECAUSE in study.user_attrs:
            break
    assert pieces.runs == whole.runs
