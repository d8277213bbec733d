"""The terminal shows every candidate once, with its group, and says how it is known."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.reporting import words
from tests.reporting.results import printed, result_with_given_up, result_without_costs
from tests.search.synthetic import ENCODERS, LLMS

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_the_table_holds_every_candidate_once_and_says_how_it_is_known(
    result: StudyResult,
) -> None:
    shown = printed(result)
    for encoder in ENCODERS:
        for llm in LLMS:
            assert len(re.findall(rf"{encoder} +{llm} ", shown)) == 1
    assert "84.0 at 8,192" in shown
    assert "67.2 at 1,024" in shown
    assert re.search(r"dino +qwen +- ", shown)  # never trained
    titles = [title for group, title in words.GROUPS.items() if result.group(group)]
    places = [shown.index(title) for title in titles]
    assert len(titles) >= 3
    assert places == sorted(places)
    assert "too large" in shown
    assert "scienceqa_img: 50.0 ± 5.0 %" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_grid_has_no_clusters_and_no_comparison_of_costs(grid: StudyResult) -> None:
    shown = printed(grid)
    assert shown.count(" at 8,192 ") == 9 + 1  # the rows, and the winner's sentence
    assert "clusters" not in shown
    assert "times less" not in shown


def test_warnings_stand_above_the_winner(result: StudyResult) -> None:
    warned = printed(replace(result, warnings=("no score is above chance", "cut")))
    starts = [line.split()[0] for line in warned.splitlines() if line.strip()]
    assert starts.index("warning") == starts.index("winner") - 2
    assert "warning" not in printed(result)


def test_unknown_costs_are_said_to_be_unknown() -> None:
    """Never a number."""
    found = result_without_costs()[1]
    shown = " ".join(printed(found).split())
    assert "cost not known; the scores were reported without" in shown
    assert "training 0.0 s" not in shown
    assert shown.count("not known") == len(found.curves) + 1


def test_the_time_of_failed_trials_is_a_part_of_the_cost(result: StudyResult) -> None:
    lost = replace(result, costs=replace(result.costs, lost=7.25))
    assert "failed and lost 7.2 s" in " ".join(printed(lost).split())
    assert "failed and lost" not in printed(result)


def test_a_pair_that_was_given_up_is_shown_last_without_an_estimate() -> None:
    found = result_with_given_up()
    shown = printed(found)
    assert words.GROUPS["failed"] in shown
    after = shown.split(words.GROUPS["failed"])[1].splitlines()[1]
    assert re.match(r" +9 +clip +llama +- +- +0\.0$", after.rstrip())
    assert "given up   clip + llama: " in shown
    assert "loss is nan" in shown
