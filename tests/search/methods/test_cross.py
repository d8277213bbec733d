"""The method `cross`."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.cross import cross_centre
from mordal_optuna.search.rankers import AdditiveRanker
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import FULL, search, settings, table, tree


def test_cross_trains_a_row_and_a_column_and_adds_up_the_rest() -> None:
    """In ln error the synthetic curves are additive, so the untrained are predicted exactly."""
    measure = table()
    plan = build_plan(settings("cross", ranker="own", finalists=0), tree(), FULL)
    study = search(plan, measure)
    centre = cross_centre(tree())
    assert centre == Candidate("clip", "llama")
    trained = {c for c, _ in measure.runs}
    assert trained == {
        c
        for c in tree().candidates
        if c.vision_encoder == centre.vision_encoder or c.llm == centre.llm
    }
    assert isinstance(plan.ranker, AdditiveRanker)
    found = {e.candidate: e for e in plan.ranking(study_history(study))}
    beliefs = {c: np.log(1 - found[c].value) for c in tree().candidates}
    for c in set(tree().candidates) - trained:
        row = beliefs[Candidate(centre.vision_encoder, c.llm)]
        column = beliefs[Candidate(c.vision_encoder, centre.llm)]
        assert beliefs[c] == pytest.approx(row + column - beliefs[centre])
        assert found[c].provenance == "inferred"
        assert found[c].low < measure.score(c, FULL) < found[c].high


def test_cross_may_train_a_finalist_that_was_not_on_the_cross() -> None:
    measure = table()
    search(build_plan(settings("cross", ranker="own", finalists=1), tree(), FULL), measure)
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)


def test_a_score_that_took_no_seconds_is_a_score() -> None:
    """A plain objective reports none; the best sum of a cross leads all the same."""
    plan = build_plan(settings("cross", ranker="own", finalists=0), tree(), FULL)
    centre = cross_centre(tree())
    assert plan.winner(History()) is None
    assert plan.winner(History({centre: CandidateHistory(failures=1)})) is None
    measure = table()
    cross = {
        c: CandidateHistory((Measurement(FULL, measure.score(c, FULL), 0.01, 100),))
        for c in tree().candidates
        if c.vision_encoder == centre.vision_encoder or c.llm == centre.llm
    }
    winner = plan.winner(History(cross))
    assert winner == Candidate("siglip", "qwen")
    assert winner not in cross
