"""Results by task: own rankings, what specialising would win, and the pairs that none beats."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.answers import Answers
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.ranking import Estimate, Ranker
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.standings import standings
from mordal_optuna.search.tasks import weighted_mean
from mordal_optuna.study.result import StudyResult, read_result
from mordal_optuna.study.task_results import TaskResult, mean_of, task_results, unbeaten
from tests.search.several import BEST, MEAN_BEST, WEIGHTS, Several
from tests.search.synthetic import FULL, RUNGS, plan, search, tree

if TYPE_CHECKING:
    from mordal_optuna.search.curves import Measurement

POOL = tree().candidates


def history(several: Several, *, top: int = FULL) -> History:
    """Every pair scored on all rungs up to the given one."""
    rungs = [rung for rung in (*RUNGS, FULL) if rung <= top]
    return History({c: CandidateHistory(tuple(several(c, r) for r in rungs)) for c in POOL})


@pytest.fixture(scope="module")
def result() -> StudyResult:
    chosen = plan(finalists=3)
    study = search(chosen, Several())
    return read_result(study, chosen, method="mordal", task=mean_of(WEIGHTS), tasks=WEIGHTS)


def test_the_search_finds_the_best_pair_on_the_weighted_mean(result: StudyResult) -> None:
    assert result.winner.candidate == MEAN_BEST
    assert result.task == "the weighted mean of gqa and chartqa"


def test_each_task_is_ranked_by_its_posterior_from_the_scores_of_all_tasks() -> None:
    seen = history(Several())
    posteriors = plan().ranker.task_posteriors(seen, WEIGHTS)
    tasks = task_results(plan(), seen, WEIGHTS, MEAN_BEST)
    for task in tasks:
        assert task.best.candidate == BEST[task.name]
        assert task.one_for_all.candidate == MEAN_BEST
        assert sum(e.best or 0.0 for e in task.ranking) == pytest.approx(1)
        scores = np.sort(1 - np.exp(posteriors[task.name].mean))[::-1]
        assert [e.value for e in task.ranking] == pytest.approx(scores.tolist())
    assert [(t.name, t.weight) for t in tasks] == list(WEIGHTS.items())


def test_what_specialising_wins_is_the_difference_with_its_interval() -> None:
    """Measured on all samples, the interval holds the true difference; sparse scores widen it."""
    several, ends = Several(), []
    for top in (FULL, RUNGS[-1]):
        for task in task_results(plan(), history(several, top=top), WEIGHTS, MEAN_BEST):
            table, gain = several.tables[task.name], task.gain
            true = table.score(BEST[task.name], FULL) - table.score(MEAN_BEST, FULL)
            assert gain
            assert gain.value == task.best.value - task.one_for_all.value
            assert gain.low < true < gain.high
            assert 0.5 < gain.probability <= 1
            ends.append(gain.high - gain.low)
    assert max(ends[:2]) < min(ends[2:])


def test_a_task_whose_best_pair_is_the_winner_has_nothing_to_win() -> None:
    seen = history(Several())
    gains = {t.name: t.gain for t in task_results(plan(), seen, WEIGHTS, BEST["gqa"])}
    assert gains["gqa"] is None
    assert gains["chartqa"]


def test_the_gain_follows_the_covariance_of_both_pairs() -> None:
    """What is not known about their common encoder cancels in the difference."""
    seen = history(Several(), top=RUNGS[0])
    (task,) = task_results(plan(), seen, {"chartqa": 1.0}, MEAN_BEST)
    posterior = Ranker(tree(), FULL).posterior(seen.of_task("chartqa"))
    rows = np.array([POOL.index(c) for c in (task.best.candidate, MEAN_BEST)])
    mean, covariance = posterior.joint(rows)
    spread = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) ** 0.5
    assert spread < 0.9 * (covariance[0, 0] + covariance[1, 1]) ** 0.5
    assert task.gain
    expected = NormalDist().cdf((mean[1] - mean[0]) / spread)
    assert task.gain.probability == pytest.approx(expected, abs=0.02)


def of_values(name: str, values: dict[Candidate, float], weight: float = 1.0) -> TaskResult:
    """A task's result with given estimates."""
    estimates = [Estimate(c, v, v, v, "measured", 1, 0.0) for c, v in values.items()]
    ranking = tuple(sorted(estimates, key=lambda e: -e.value))
    return TaskResult(name, weight, ranking, ranking[0], None, {})


A, B, C, D = (Candidate("e", name) for name in "abcd")


def test_a_pair_that_another_one_beats_on_all_tasks_is_left_out() -> None:
    one = of_values("one", {A: 0.9, B: 0.5, C: 0.4, D: 0.9})
    two = of_values("two", {A: 0.2, B: 0.6, C: 0.5, D: 0.1})
    assert unbeaten([one, two]) == (A, B)  # C is below B on both; D equals A on one only
    assert unbeaten([one, replace(two, weight=5.0)]) == (B, A)


def test_equal_pairs_do_not_beat_each_other() -> None:
    same = of_values("one", {A: 0.5, B: 0.5})
    assert set(unbeaten([same, of_values("two", {A: 0.5, B: 0.5})])) == {A, B}


def test_the_unbeaten_pairs_are_those_of_a_comparison_of_all_with_all() -> None:
    rng = np.random.default_rng(0)
    pairs = [Candidate("e", f"l{n}") for n in range(200)]
    values = rng.random((3, 200)).round(1)  # with ties
    rows = [dict(zip(pairs, row.tolist(), strict=True)) for row in values]
    tasks = [of_values(str(number), row) for number, row in enumerate(rows)]
    beaten = {
        pairs[n]
        for n in range(200)
        for m in range(200)
        if (values[:, m] >= values[:, n]).all() and (values[:, m] > values[:, n]).any()
    }
    assert set(unbeaten(tasks)) == set(pairs) - beaten


def test_costs_are_counted_once(result: StudyResult) -> None:
    """The tasks' shares add up to the study's training and evaluation."""
    shares = sum(e.seconds for task in result.tasks for e in task.ranking)
    assert shares == pytest.approx(result.costs.training + result.costs.evaluation)


def test_the_mean_of_many_tasks_is_named_by_their_number() -> None:
    assert mean_of({"a": 2.0, "b": 2.0, "c": 2.0}) == "the mean of a, b and c"
    assert mean_of(dict.fromkeys("abcd", 1.0)) == "the mean of 4 tasks"


def test_a_study_of_one_task_has_no_results_by_task() -> None:
    several = Several()
    chosen = plan()
    study = search(chosen, several.tables["gqa"])
    bare = read_result(study, chosen, method="mordal", task="gqa")
    assert (bare.tasks, bare.unbeaten) == ((), ())


def test_the_winner_is_compared_document_by_document_on_all_tasks() -> None:
    """With the weights of the study; without the documents of one task it is not."""
    several = Several()

    def answered(candidate: Candidate, samples: int) -> Measurement:
        mean = several(candidate, samples)
        right = {name: int(400 * m.score) for name, m in mean.by_task.items()}
        answers = {n: Answers.of([1.0] * k + [0.0] * (400 - k), None, n) for n, k in right.items()}
        by_task = {n: replace(m, answers=answers[n].packed()) for n, m in mean.by_task.items()}
        return weighted_mean(by_task, WEIGHTS)

    chosen = plan(finalists=3)
    study = search(chosen, answered)
    for weights, paired in ((WEIGHTS, True), ({**WEIGHTS, "ai2d": 1.0}, False)):
        history = study_history(study)
        ranking, winner = chosen.ranker.rank(history), chosen.winner(history)
        assert winner
        compared = standings(chosen, history, ranking, winner, run_noise=0.05, weights=weights)
        contrasts = [s.contrast for s in compared.values() if s.contrast]
        assert contrasts
        assert all(contrast.paired is paired for contrast in contrasts)
