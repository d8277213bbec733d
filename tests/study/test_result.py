"""The result of a study is the same from every database and names the best trial."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from mordal_optuna.errors import TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import REPRESENTATION
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History, candidate_of
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import (
    FurtherScore,
    Representation,
    further_seconds,
    read_result,
    store_representation,
    stored_representation,
)
from tests.search.synthetic import FULL, RUNGS, plan, search, table, tree
from tests.studies import new_study

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from mordal_optuna.study.result import StudyResult


def similarities(size: int) -> tuple[tuple[float, ...], ...]:
    """A random similarity matrix with all digits."""
    found = np.random.default_rng(size).uniform(0.5, 0.9, (size, size))
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1.0)
    return tuple(tuple(row) for row in found.tolist())


def representation(size: int) -> Representation:
    """A comparison of size x size models."""
    names = tuple(f"encoder-{number}" for number in range(size))
    llms = tuple(f"llm-{number}" for number in range(size))
    vision = similarities(size)
    return Representation(
        vision,
        dict.fromkeys(names[: max(1, size // 2)], vision),
        ClusterTree.flat(names, llms),
        {"features": 1.0, "similarity": 2.0, "warmup": 3.0},
    )


def found(storage: BaseStorage) -> StudyResult:
    """The result of a whole search after a comparison."""
    study = optuna.create_study(study_name="synthetic", storage=storage, direction="maximize")
    store_representation(study, replace(representation(25), tree=tree()))
    study = search(plan(), table(), storage)
    return read_result(study, plan(), method="mordal", task="t")


@pytest.mark.slow
def test_a_whole_study_gives_the_same_result_on_every_database(database: str) -> None:
    result = found(study_storage(database))
    assert result == found(InMemoryStorage())
    assert result.representation == replace(representation(25), tree=tree())


@pytest.mark.parametrize("size", [2, 25])
def test_similarities_read_back_as_they_were_stored(database: str, size: int) -> None:
    """Those of 25 x 25 models exceed MariaDB's 64 KB an attribute."""
    study = optuna.create_study(storage=study_storage(database))
    assert stored_representation(study) is None
    store_representation(study, representation(size))
    assert stored_representation(study) == representation(size)


def test_similarities_stored_by_older_versions_are_read() -> None:
    study = optuna.create_study()
    study.set_user_attr(REPRESENTATION, representation(25).to_json())
    assert stored_representation(study) == representation(25)


RACE = (2048, 4096)


@pytest.mark.parametrize("race", [(), RACE])
def test_optunas_best_trial_is_the_winner(race: tuple[int, ...]) -> None:
    """In a search interrupted after each trial and in one without interruptions.

    Whenever there is a best trial, it is the winner.
    """
    chosen, whole = plan(finalists=4, race=race), None
    storage = InMemoryStorage()
    for _ in range(60):
        study = search(chosen, table(), storage, n_trials=1)
        result = read_result(study, chosen, method="mordal", task="t")
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        assert result.final == bool(complete)
        if complete:
            assert candidate_of(study.best_trial) == result.winner.candidate
            assert study.best_value == result.measured.score
        if result.stopped_because:
            whole = result
            break
    assert whole is not None
    assert whole.final
    assert whole.measured.samples == chosen.answer_rung
    again = read_result(search(chosen, table()), chosen, method="mordal", task="t")
    assert again.winner == whole.winner
    assert again.standings == whole.standings


def test_a_search_that_runs_out_of_budget_has_a_leader_and_no_answer() -> None:
    chosen = plan(budget=Budget(device_hours=30 / 3600))
    study = search(chosen, table())
    result = read_result(study, chosen, method="mordal", task="t")
    assert result.stopped_because is not None
    assert result.stopped_because.startswith("budget spent")
    assert not result.final
    with pytest.raises(ValueError, match="No trials are completed"):
        _ = study.best_trial


def test_an_extended_search_keeps_the_best_trial_the_winner() -> None:
    """A larger budget continues where the smaller one ended."""
    storage = InMemoryStorage()
    for hours in (0.01, 0.02, 1.0):
        chosen = plan(finalists=3, budget=Budget(device_hours=hours))
        study = search(chosen, table(), storage)
        result = read_result(study, chosen, method="mordal", task="t")
        if result.final:
            assert candidate_of(study.best_trial) == result.winner.candidate
    assert result.final


def test_training_a_pair_on_costs_what_its_own_samples_cost() -> None:
    a, b, c = tree().candidates[:3]
    known = History(
        {
            a: CandidateHistory((Measurement(100, 0.5, 0.01, 100, 20.0, 3.0),)),
            b: CandidateHistory((Measurement(100, 0.5, 0.01, 100, 40.0, 5.0),)),
        }
    )
    assert further_seconds(known, a, 400) == pytest.approx(0.2 * 300 + 3.0)
    assert further_seconds(known, b, 400) == pytest.approx(0.4 * 300 + 5.0)
    # never trained: as the others on average
    assert further_seconds(known, c, 400) == pytest.approx(0.3 * 400 + 4.0)
    assert further_seconds(known, a, 100) == 0.0
    assert further_seconds(History({}), a, 400) is None


def test_a_challenger_is_estimated_higher_and_was_trained_less() -> None:
    """The finalist scores below its estimate after the last place of the finish is taken."""
    measure, chosen = table(), plan()

    def disappointing(candidate: Candidate, samples: int) -> Measurement:
        found = measure(candidate, samples)
        return replace(found, score=found.score - 0.4) if samples == FULL else found

    study = new_study(chosen)
    study.optimize(Objective(chosen, disappointing))
    result = read_result(study, chosen, method="mordal", task="t")
    assert result.challengers
    for found in result.challengers:
        assert found.estimate.value > result.winner.value
        assert found.estimate.samples <= RUNGS[-1]
        assert found.seconds
        assert result.standings[found.estimate.candidate].group == "open"
    assert result.ranking[0] == result.winner  # whatever is estimated


def test_a_failure_followed_by_a_score_is_not_listed() -> None:
    measure, chosen, failed = table(), plan(), []

    def passing(candidate: Candidate, samples: int) -> Measurement:
        if candidate == Candidate("clip", "llama") and not failed:
            failed.append(candidate)
            raise TrainingError(samples, "loss is nan")
        if candidate == Candidate("dino", "llama"):
            raise TrainingError(samples, "out of memory")
        return measure(candidate, samples)

    study = new_study(chosen)
    study.optimize(Objective(chosen, passing), catch=(TrainingError,))
    result = read_result(study, chosen, method="mordal", task="t")
    assert set(result.failures) == {Candidate("dino", "llama")}


def test_reused_results_of_another_study_are_not_spent() -> None:
    """A rung with a reused checkpoint and score costs nothing and counts as reused."""
    measure, chosen = table(), plan()

    def found(candidate: Candidate, samples: int) -> Measurement:
        told = measure(candidate, samples)
        reused = samples <= RUNGS[0]
        return replace(
            told,
            train_spent=0.0 if reused else None,
            eval_spent=0.0 if reused else told.eval_seconds,
        )

    study = new_study(chosen)
    study.optimize(Objective(chosen, found))
    result = read_result(study, chosen, method="mordal", task="t")
    first = [curve[0] for curve in result.curves.values()]
    assert result.costs.reused == pytest.approx(
        sum(m.train_seconds + m.eval_seconds for m in first)
    )
    plain = read_result(search(plan(), table()), chosen, method="mordal", task="t")
    assert result.costs.total + result.costs.reused == pytest.approx(plain.costs.total)
    assert result.full_run_seconds == plain.full_run_seconds


def test_further_scores_of_every_version_are_read_back() -> None:
    """Older versions stored no share of drawn answers."""
    stored = {"task": "t", "value": 0.5, "stderr": 0.1, "documents": 9, "samples": 8}
    score = FurtherScore.from_json(stored)
    assert score == FurtherScore("t", Measurement(8, 0.5, 0.1, 9))
    assert score.to_json() == {**stored, "guessed": None}
    drawn = {**stored, "guessed": 0.25}
    assert FurtherScore.from_json(drawn).to_json() == drawn


def test_the_time_of_failed_trials_is_lost_time() -> None:
    """As stored with trials whose measurement failed."""
    chosen, measure, clock = plan(), table(), iter(range(0, 10_000, 5))

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == Candidate("clip", "llama"):
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study = new_study(chosen)
    objective = Objective(chosen, broken, clock=lambda: float(next(clock)))
    study.optimize(objective, catch=(TrainingError,))
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert found.costs.lost == pytest.approx(10.0)  # two trials, five seconds each


def failing(bad: Candidate, fails_at: int) -> StudyResult:
    """The result of a search in which one pair always fails from a rung on."""
    chosen, measure = plan(), table()
    study = new_study(chosen)

    def passing(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad and samples >= fails_at:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study.optimize(Objective(chosen, passing), catch=(TrainingError,))
    return read_result(study, chosen, method="mordal", task="t")


def test_a_pair_that_was_given_up_is_last_and_has_no_estimate() -> None:
    """It never had a score, and is the best pair with no probability."""
    bad = Candidate("clip", "llama")
    result = failing(bad, 0)
    assert "loss is nan" in result.given_up[bad]
    last = result.ranking[-1]
    assert (last.candidate, last.provenance, last.best) == (bad, "none", None)
    assert result.standings[bad].group == "failed"
    assert sum(e.best or 0.0 for e in result.ranking) == pytest.approx(1)
    assert bad not in [c.estimate.candidate for c in result.challengers]
    assert len(result.ranking) == 9


def test_a_pair_that_was_given_up_after_scores_is_last_with_its_own_estimate() -> None:
    """It is the best pair of the pool, and could not be trained to the end."""
    bad = Candidate("siglip", "qwen")
    result = failing(bad, FULL)
    assert set(result.given_up) == {bad}
    last = result.ranking[-1]
    assert (last.candidate, last.best) == (bad, None)
    assert last.provenance == "extrapolated"
    assert result.winner.candidate != bad
    assert result.curves[bad]


def test_without_failures_nothing_is_given_up() -> None:
    result = failing(Candidate("clip", "llama"), 2 * FULL)
    assert result.given_up == {}
    assert "failed" not in {standing.group for standing in result.standings.values()}
