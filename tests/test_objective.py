"""One trial: known scores first, failures with their reason, a value only when settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import TrainingError
from mordal_optuna.objective import Objective
from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import CONTINUES, ESTIMATE, FAILURE, RUNGS, candidate_of
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import STOPPED_BECAUSE, CkaClusterSampler
from tests.search.synthetic import FULL, plan, search, table
from tests.search.synthetic import RUNGS as SAMPLES

if TYPE_CHECKING:
    from mordal_optuna.search.curves import Measurement


def test_a_promoted_trial_repeats_its_curve_and_links_back() -> None:
    study = search(plan(), table())
    promoted = [t for t in study.trials if CONTINUES in t.user_attrs]
    assert promoted
    for trial in promoted:
        before = study.trials[trial.user_attrs[CONTINUES]]
        assert candidate_of(before) == candidate_of(trial)
        assert before.intermediate_values.items() <= trial.intermediate_values.items()
        # only what is new was paid for
        new = trial.intermediate_values.keys() - before.intermediate_values.keys()
        assert set(trial.user_attrs[RUNGS]) == {str(samples) for samples in new}


def test_complete_means_settled_and_the_value_is_the_estimate() -> None:
    study = search(plan(), table())
    for trial in study.get_trials(states=(TrialState.COMPLETE,)):
        assert trial.value == pytest.approx(trial.user_attrs[ESTIMATE]["value"])
        assert set(SAMPLES) <= set(trial.intermediate_values)
    for trial in study.get_trials(states=(TrialState.PRUNED,)):
        assert trial.user_attrs[ESTIMATE]["known"] == "inferred"


def test_a_failure_is_stored_with_its_reason_and_the_search_goes_on() -> None:
    bad, measure, chosen = Candidate("clip", "llama"), table(), plan()

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    study.optimize(Objective(chosen, broken), n_trials=100, catch=(TrainingError,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all("loss is nan" in t.user_attrs[FAILURE] for t in failed)
    assert STOPPED_BECAUSE in study.user_attrs
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


def test_an_interrupted_trial_is_continued_from_its_last_score() -> None:
    """Interrupted inside a trial, the score reported before is kept and not measured again."""
    measure, chosen = table(), plan(top_clusters=4)

    def interrupt(candidate: Candidate, samples: int) -> Measurement:
        if samples == SAMPLES[1]:
            raise KeyboardInterrupt
        return measure(candidate, samples)

    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    with pytest.raises(KeyboardInterrupt):
        study.optimize(Objective(chosen, interrupt))
    study.optimize(Objective(chosen, measure))
    assert len(measure.runs) == len(set(measure.runs))
    assert max(samples for _, samples in measure.runs) == FULL
    assert not any(FAILURE in t.user_attrs for t in study.trials)
