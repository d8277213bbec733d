"""What is stored of failed trials: failures count, interruptions and outages do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import LastingOutageError, SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, JOB, STOPPED_BECAUSE
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import study_history
from tests.search.plain import BEST, new_study, readme_objective, winner_of
from tests.search.synthetic import ENCODERS, LLMS, plan, table

if TYPE_CHECKING:
    from collections.abc import Callable


def broken_for(
    bad: Candidate, objective: Callable[[optuna.Trial], float], error: BaseException
) -> Callable[[optuna.Trial], float]:
    def broken(trial: optuna.Trial) -> float:
        encoder = trial.suggest_categorical("vision_encoder", ENCODERS)
        if encoder == bad.vision_encoder and candidate_of_mark(trial) == bad:
            raise error
        return objective(trial)

    return broken


def candidate_of_mark(trial: optuna.Trial) -> Candidate:
    return Candidate(*trial.study.trials[trial.number].system_attrs[JOB]["pair"])


def test_a_pair_whose_objective_raises_is_tried_twice() -> None:
    """Also where it raises before it has asked for the second of the two models."""
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen)
    objective = broken_for(bad, readme_objective(chosen, table()), ValueError("no such layer"))
    study.optimize(objective, n_trials=300, catch=(Exception,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert len(failed) == 2
    assert {t.user_attrs[FAILURE] for t in failed} == {"ValueError: no such layer"}
    assert len(study.trials) < 40
    assert winner_of(chosen, study) == BEST


def test_interruptions_do_not_count_as_failures() -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen)
    stopped = broken_for(bad, readme_objective(chosen, table()), KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            study.optimize(stopped)
    assert all(INTERRUPTED in t.user_attrs for t in study.trials)
    assert study_history(study).of(bad).failures == 0
    study.optimize(readme_objective(chosen, table()))
    assert study_history(study).of(bad).top


def test_an_outage_in_an_objective_does_not_count_as_a_failure_and_is_waited_out() -> None:
    chosen, measure, naps = plan(), table(), []
    plain, study = readme_objective(chosen, measure), new_study(chosen)
    study.sampler._patience = Patience(naps.append, Silent())  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        if 3 <= trial.number < 6:
            raise ConnectionError("the hub is away")
        return plain(trial)

    study.optimize(objective, catch=(Exception,))
    assert naps == [1.0, 2.0, 4.0]
    assert not any(known.failures for known in study_history(study).candidates.values())
    assert winner_of(chosen, study) == BEST


def test_an_outage_that_lasts_stops_the_study_with_one_sentence() -> None:
    chosen, naps = plan(), []
    study = new_study(chosen)
    study.sampler._patience = Patience(naps.append, Silent())  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        raise ConnectionError("the hub is away")

    study.optimize(objective, n_trials=100, catch=(ConnectionError, LastingOutageError))
    assert len(study.trials) == len(naps) + 2
    assert sum(naps) > 1500
    assert STOPPED_BECAUSE not in study.user_attrs


@pytest.mark.parametrize("wrong", [float("nan"), 54.3])
def test_an_invalid_score_fails_its_trial_and_the_study_stays_readable(wrong: float) -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    measure = table()

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        score = 0.0
        for samples in chosen.rungs:
            score = wrong if pair == bad else measure.score(pair, samples)
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = new_study(chosen)
    with pytest.raises(SearchError, match=f"trial 0 reported {wrong} at 256.*between 0 and 1"):
        study.optimize(objective)
    study.optimize(objective, catch=(SearchError,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all(f"reported {wrong}" in t.user_attrs[FAILURE] for t in failed)
    assert winner_of(chosen, study) == BEST


def test_an_invalid_score_counts_as_a_failure_without_our_pruner_too() -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen, pruner=optuna.pruners.NopPruner())

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        trial.report(float("nan"), step=256)
        return 0.5

    study.optimize(objective, n_trials=2)
    assert study_history(study).of(bad).failures == 2
    assert "reported nan" in (study_history(study).of(bad).failure or "")
