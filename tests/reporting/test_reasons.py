"""Every pair has a reason, which is true of its scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.reasons import why
from mordal_optuna.search.answers import Contrast
from mordal_optuna.search.standings import Standing
from tests.reporting.results import result_with_given_up

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def reasons(result: StudyResult) -> dict[Candidate, str]:
    return {e.candidate: why(result, e) for e in result.ranking}


def test_the_winner_leads_until_it_is_measured_as_such(result: StudyResult) -> None:
    assert reasons(result)[result.winner.candidate] == "the winner"
    assert why(replace(result, final=False), result.winner) == "leads so far"


def test_a_lead_beyond_noise_comes_first(result: StudyResult) -> None:
    """With its numbers, then where the pair stopped and how it stood there."""
    found = reasons(result)[Candidate("clip", "mistral")]
    assert found == (
        "17.4 points below the winner at 1,024 samples, more than the 8.4 that noise explains; "
        "stopped at 1,024 samples, place 6 of 6 there (1 went on)"
    )


def test_a_pair_within_noise_is_said_to_be_possible(result: StudyResult) -> None:
    found = reasons(result)[Candidate("clip", "qwen")]
    assert found.startswith("stopped at 1,024 samples, place 2 of 6 there (1 went on); estimated")
    assert "the best pair with probability 26 %" in found
    assert found.endswith("within the 8.1 that noise explains")


def test_an_untrained_pair_names_the_one_that_stands_for_it(result: StudyResult) -> None:
    pair = Candidate("dino", "qwen")
    assert pair not in result.curves
    found = reasons(result)[pair]
    assert found.startswith(
        "never trained; dino + llama, which stands for its cluster, stopped at 256 samples, place "
        "7 of 8 there (6 went on)"
    )
    alone = replace(result, representation=None)
    assert reasons(alone)[pair].startswith("never trained; estimated 10.8 points below")


def test_nothing_is_dropped_while_the_search_goes_on(result: StudyResult) -> None:
    running = replace(result, stopped_because=None)
    found = reasons(running)
    assert found[Candidate("dino", "qwen")].startswith("not trained yet; dino + llama")
    assert "trained so far up to 1,024 samples" in found[Candidate("clip", "qwen")]
    assert not any("stopped" in text or "never" in text for text in found.values())


def test_a_tied_pair_was_not_dropped(result: StudyResult) -> None:
    pair = Candidate("clip", "qwen")
    tied = Standing("tied", Contrast(1024, 0.01, 0.02, paired=True), 0.04)
    shown = replace(result, standings={**result.standings, pair: tied})
    estimate = next(e for e in shown.ranking if e.candidate == pair)
    assert why(shown, estimate) == (
        "not told apart from the winner: 1.0 points below the winner at 1,024 samples, within "
        "the 4.0 that noise explains"
    )


def test_a_pair_that_was_given_up_says_what_failed() -> None:
    found = result_with_given_up()
    assert "loss is nan" in reasons(found)[Candidate("clip", "llama")]
