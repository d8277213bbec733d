"""Sentences about a result: what was measured comes first, and costs are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.reporting import words
from mordal_optuna.search.standings import Standing
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.result import Challenger
from tests.reporting.results import printed

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_the_headline_gives_what_was_measured_first(result: StudyResult) -> None:
    """The estimate and the probability of being the best pair follow."""
    told, winner = words.headline(result), result.winner
    score = f"{100 * result.measured.score:.1f}"
    assert told.startswith(f"{winner.candidate}: {score} ± ")
    assert told.index("measured at 8,192") < told.index("Estimate from all scores")
    assert f"probability {winner.best:.2f}" in told
    early = replace(result, final=False)
    assert words.headline(early).startswith(f"none yet; best so far {winner.candidate}: {score}")


def test_ties_come_with_what_settling_them_costs(result: StudyResult, grid: StudyResult) -> None:
    assert words.ties(result) == "No other measured pair is within noise of the winner."
    first, second = (e.candidate for e in grid.ranking[:2])
    tied = dict.fromkeys(grid.standings, Standing("worse"))
    tied |= {first: Standing("tied"), second: Standing("tied")}
    told = words.ties(replace(grid, standings=tied, settling_seconds=130.0))
    assert told.startswith(f"1 other pair is within noise of the winner: {second}; ")
    assert told.endswith("takes about 2 min.")
    assert "only more documents or more random seeds can tell" in words.ties(
        replace(grid, standings=tied, settling_seconds=0.0)
    )
    assert first == grid.winner.candidate


def test_a_challenger_comes_with_the_cost_of_measuring_it(result: StudyResult) -> None:
    second = result.ranking[1]
    told = words.challenger(Challenger(second, 10.2))
    assert told.startswith(f"{second.candidate} is estimated higher: ")
    assert "about 10 s more would measure it" in told
    assert told in " ".join(
        printed(replace(result, challengers=(Challenger(second, 10.2),))).split()
    )


@pytest.mark.parametrize(
    ("value", "stderr", "told"),
    [
        (0.0, 0.0, "0.0 % (0.0 to 16.1)"),
        (1.0, 0.0, "100.0 % (83.9 to 100.0)"),
        (0.5, 0.112, "50.0 ± 11.2 %"),
    ],
)
def test_a_share_of_no_documents_or_all_has_an_interval(
    value: float, stderr: float, told: str
) -> None:
    """The standard error of 0 of 20 documents is 0, though the score is not known exactly."""
    assert words.score(value, stderr, 20) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.5, "2.0 times less"), (1.0, "about the same"), (2.0, "times more")]
)
def test_a_search_that_costs_more_than_the_grid_says_so(
    result: StudyResult, seconds: float, told: str
) -> None:
    """And never "0.6 times less"."""
    assert result.full_run_seconds
    spent = seconds * result.grid_runs * result.full_run_seconds
    costs = Costs(0.0, 0.0, 0.0, spent, 0.0)
    assert told in words.cost_sentence(replace(result, costs=costs))


def test_reused_results_are_not_counted_and_are_mentioned(result: StudyResult) -> None:
    reused = replace(result, costs=replace(result.costs, reused=34.0))
    assert reused.full_runs == result.full_runs
    assert "(34 device-seconds) are not counted" in words.cost_sentence(reused)
    assert "not counted" not in words.cost_sentence(result)


def test_answers_that_had_to_be_drawn_are_reported_with_the_score(result: StudyResult) -> None:
    """On the target task and on further tasks; tasks that never draw are not mentioned."""
    assert "drawn" not in words.headline(result)
    winner = result.winner.candidate
    told = tuple(replace(m, guessed=0.25) for m in result.curves[winner])
    drawn = replace(result, curves={**result.curves, winner: told})
    assert "25 % of the answers unreadable and drawn at random" in words.headline(drawn)
    undrawn = result.further_scores[0]
    score = replace(undrawn, measurement=replace(undrawn.measurement, guessed=0.5))
    assert "(100 documents, 50 % of the answers unreadable and drawn at random)" in words.further(
        score
    )
    assert "drawn" not in words.further(result.further_scores[0])


def test_lost_time_is_listed_only_if_there_was_any() -> None:
    """The parts add up to the total; reused results are none of them."""
    costs = Costs(1.0, 2.0, 3.0, 4.0, 5.0, reused=9.0)
    names = ["features", "similarity", "warm-up", "training", "evaluation"]
    assert words.cost_parts(costs) == list(zip(names, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    lost = replace(costs, lost=6.0)
    assert words.cost_parts(lost)[-1] == ("failed and lost", 6.0)
    assert sum(seconds for _, seconds in words.cost_parts(lost)) == lost.total


def test_a_study_that_reused_everything_cost_nothing(result: StudyResult) -> None:
    """As a second study on the first one's checkpoints and scores; no ratio is formed."""
    free = replace(result, costs=Costs(reused=100.0))
    assert words.cost_sentence(free) == (
        "0.00 full-run equivalents (0 device-seconds): nothing was trained or scored again. "
        "Results reused from other studies (100 device-seconds) are not counted."
    )


def test_a_pair_whose_scores_were_carried_over_cost_nothing_here(result: StudyResult) -> None:
    """The costs of its scores are known: another study has paid them."""
    first = result.ranking[0]
    assert words.candidate_cost(result, first) == f"{first.seconds:.1f}"
    assert words.candidate_cost(result, replace(first, seconds=0.0)) == "0.0"
