"""The cases of the overhead of `joint`: they have the scores they name, and do the whole work."""

from __future__ import annotations

from benchmarks.search_overhead.joint import Case, measured


def test_a_case_has_its_scores_on_different_pairs() -> None:
    case = Case.drawn(7, 61)
    records = case.history.candidates.values()
    assert sum(len(record.measurements) for record in records) == 61
    assert len(records) == 31


def test_a_decision_chooses_a_round_and_a_ranking_has_the_whole_pool() -> None:
    case = Case.drawn(4, 12)
    assert case.decide(case.model(8)) == 4
    assert case.decide(None) == 4
    assert case.rank() == 16


def test_figures_are_those_of_the_case() -> None:
    found = measured(4, 12, 1)
    assert (found["pairs"], found["scores"]) == (16, 12)
    assert found["decision_s"] > 0
    assert found["ranking_s"] > 0
