"""The check compares the estimates of a search with the measured scores of the grid."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.check import Check, compare, print_check
from mordal_optuna.study.costs import Costs
from tests.search.synthetic import FULL, table

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult

BEST, WORST = Candidate("siglip", "qwen"), Candidate("dino", "mistral")


def printed(check: Check) -> str:
    stream = io.StringIO()
    print_check(check, Console(file=stream, width=100))
    return stream.getvalue()


def words(check: Check) -> str:
    return " ".join(printed(check).split())


def with_estimate(result: StudyResult, candidate: Candidate, **changes: object) -> StudyResult:
    ranking = tuple(
        replace(e, **changes) if e.candidate == candidate else e  # type: ignore[arg-type]
        for e in result.ranking
    )
    return replace(result, ranking=ranking)


def test_pairs_are_in_the_order_of_the_grid_with_both_ranks(
    result: StudyResult, grid: StudyResult
) -> None:
    """The difference is the estimate less the score that the grid measured at D."""
    check = compare(result, grid)
    assert [p.estimate.candidate for p in check.pairs] == [e.candidate for e in grid.ranking]
    assert [p.grid_rank for p in check.pairs] == list(range(1, 10))
    for pair in check.pairs:
        candidate = pair.estimate.candidate
        assert pair.estimate == result.ranking[pair.rank - 1]
        score = table().score(candidate, FULL)
        assert pair.truth
        assert pair.truth.score == pytest.approx(score)
        assert pair.difference == pytest.approx(pair.estimate.value - score)


def test_the_best_pair_has_no_regret(result: StudyResult, grid: StudyResult) -> None:
    check = compare(result, grid)
    assert check.winner == BEST
    assert (check.regret, check.regret_stderr) == (0.0, 0.0)
    assert "picked the best pair of the grid, siglip + qwen (84.0 %): regret 0.0" in words(check)


def test_regret_and_its_error_come_from_the_grids_scores(
    result: StudyResult, grid: StudyResult
) -> None:
    """And not from the search's estimate of its winner."""
    worst = next(e for e in result.ranking if e.candidate == WORST)
    check = compare(replace(result, winner=replace(worst, value=0.99)), grid)
    scores = [table().score(candidate, FULL) for candidate in (BEST, WORST)]
    assert check.regret == pytest.approx(scores[0] - scores[1])
    noise = [math.sqrt(s * (1 - s) / 400) for s in scores]
    assert check.regret_stderr == pytest.approx(math.hypot(*noise))
    assert f"regret 18.5 ± {100 * math.hypot(*noise):.1f} points" in words(check)
    assert "picked dino + mistral (65.5 %, rank 9 of the grid); the best is siglip" in words(check)


def test_only_intervals_of_pairs_not_fully_trained_are_counted(
    result: StudyResult, grid: StudyResult
) -> None:
    """The score of a fully trained pair is the grid's, which its interval cannot miss."""
    check = compare(result, grid)
    trained = [e for e in result.ranking if e.provenance == "measured"]
    assert trained
    assert len(check.guessed) == 9 - len(trained)
    assert all(pair.holds for pair in check.guessed)
    missed = with_estimate(result, WORST, low=0.1, high=0.2, provenance="inferred")
    told = compare(missed, grid)
    assert next(p for p in told.pairs if p.estimate.candidate == WORST).holds is False
    guessed = len(told.guessed)
    assert f"{guessed - 1} of the {guessed} intervals" in words(told)
    (row,) = [line for line in printed(told).splitlines() if "10.0 to 20.0 *" in line]
    assert "dino" in row
    assert "mistral" in row
    assert printed(check).count("*") == 1  # what it means


def test_costs_are_the_whole_search_and_each_pair_trained_fully_and_scored_once(
    result: StudyResult, grid: StudyResult
) -> None:
    """The costs of the grid do not include its scores at lower rungs."""
    check = compare(result, grid)
    assert check.grid_seconds == pytest.approx(9 * (FULL / 100 + 1.0))
    assert check.grid_seconds < grid.costs.total
    assert check.search_seconds == result.costs.total
    assert f"{check.grid_seconds / check.search_seconds:.1f} times less" in words(check)
    free = Costs(0.0, 0.0, 0.0, 0.0, 0.0)
    assert "cost not known" in words(compare(replace(result, costs=free), grid))


def test_a_pair_that_the_grid_could_not_train_comes_last_without_a_score(
    result: StudyResult, grid: StudyResult
) -> None:
    second = Candidate("clip", "qwen")
    curves = {c: points for c, points in grid.curves.items() if c != second}
    check = compare(result, replace(grid, curves=curves))
    last = check.pairs[-1]
    assert (last.estimate.candidate, last.truth, last.grid_rank) == (second, None, None)
    assert last.difference is last.holds is None
    assert [p.grid_rank for p in check.pairs[:-1]] == list(range(1, 9))
    (row,) = [line for line in printed(check).splitlines() if "failed" in line]
    assert "clip" in row


def test_it_fits_100_columns(result: StudyResult, grid: StudyResult) -> None:
    assert max(map(len, printed(compare(result, grid)).splitlines())) <= 100


@pytest.mark.parametrize("change", [{"task": "ai2d"}, {"full_samples": 512}, {"ranking": ()}])
def test_another_pool_task_or_size_is_refused(
    result: StudyResult, grid: StudyResult, change: dict[str, object]
) -> None:
    with pytest.raises(SearchError, match="must have the same pool, task and number"):
        compare(result, replace(grid, **change))  # type: ignore[arg-type]


def test_a_grid_without_the_winner_is_refused(result: StudyResult, grid: StudyResult) -> None:
    curves = {c: points for c, points in grid.curves.items() if c != BEST}
    with pytest.raises(SearchError, match="no score of siglip \\+ qwen at 8192 samples"):
        compare(result, replace(grid, curves=curves))
