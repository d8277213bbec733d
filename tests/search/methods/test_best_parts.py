"""The method `best-parts`."""

from __future__ import annotations

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import FULL, search, settings, table, tree


def test_best_parts_trains_a_row_and_a_column_fully_then_the_best_two_together() -> None:
    """From clip + llama: M + L - 1 runs, siglip and qwen are the best parts, one run more."""
    measure = table()
    plan = build_plan(settings("best-parts", ranker="own"), tree(), FULL)
    study = search(plan, measure)
    assert {samples for _, samples in measure.runs} == {FULL}
    *parts, last = [candidate for candidate, _ in measure.runs]
    assert set(parts) == {
        c for c in tree().candidates if c.vision_encoder == "clip" or c.llm == "llama"
    }
    assert len(parts) == 3 + 3 - 1
    assert last == Candidate("siglip", "qwen")
    winner = plan.winner(study_history(study))
    assert winner == last
    assert study.user_attrs[STOPPED_BECAUSE].startswith("pool exhausted")


def test_best_parts_trains_no_more_where_the_best_parts_were_together_already() -> None:
    measure = table()
    search(
        build_plan(settings("best-parts", ranker="own", popular=("dino", "qwen")), tree(), FULL),
        measure,
    )
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)
    assert len(measure.runs) == 3 + 3 - 1


def test_best_parts_answers_with_the_best_it_trained() -> None:
    """Parts that are the best alone and bad together are not the answer."""
    measure = table()
    measure.levels[Candidate("siglip", "qwen")] = 0.9
    plan = build_plan(settings("best-parts", ranker="own"), tree(), FULL)
    history = study_history(search(plan, measure))
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)
    winner = plan.winner(history)
    assert winner == Candidate("clip", "qwen")
    assert plan.is_settled(history, Candidate("siglip", "qwen"))


def test_best_parts_ends_where_its_combination_cannot_be_trained() -> None:
    plan = build_plan(settings("best-parts", ranker="own"), tree(), FULL)
    measure, best = table(), Candidate("siglip", "qwen")
    parts = {
        c: CandidateHistory((measure(c, FULL),))
        for c in tree().candidates
        if c.vision_encoder == "clip" or c.llm == "llama"
    }
    assert plan.jobs(History({**parts, best: CandidateHistory(failures=1)})) == [
        Job(best, FULL, "combination")
    ]
    assert isinstance(plan.jobs(History({**parts, best: CandidateHistory(failures=2)})), Finished)


def test_best_parts_adds_up_the_others() -> None:
    plan = build_plan(settings("best-parts", ranker="own"), tree(), FULL)
    measure = table()
    for estimate in plan.ranking(study_history(search(plan, measure))):
        assert estimate.value == pytest.approx(measure.score(estimate.candidate, FULL))
