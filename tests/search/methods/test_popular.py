"""The method `popular`."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import FULL, search, settings, table, tree


def test_popular_trains_the_named_or_the_first_pair_and_ranks_the_others_equal() -> None:
    for named, pair in (
        (None, Candidate("clip", "llama")),
        (("dino", "qwen"), Candidate("dino", "qwen")),
    ):
        measure = table()
        plan = build_plan(settings("popular", popular=named, finalists=3), tree(), FULL)
        history = study_history(search(plan, measure))
        assert measure.runs == [(pair, FULL)]
        winner = plan.winner(history)
        assert winner == pair
        assert len({e.value for e in plan.ranking(history)}) == 1


def test_a_popular_pair_that_the_pool_lacks_is_refused() -> None:
    for method in ("popular", "best-parts"):
        chosen = settings(method, popular=("clip", "gpt"))
        with pytest.raises(SearchError, match="'clip' \\+ 'gpt' is not in the pool"):
            build_plan(chosen, tree(), FULL)
