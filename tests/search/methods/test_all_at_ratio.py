"""The method `all-at-ratio`."""

from __future__ import annotations

from mordal_optuna.pool import Candidate
from mordal_optuna.search.methods.building import build_plan
from tests.search.synthetic import FULL, search, settings, table, tree


def test_all_at_ratio_scores_everyone_once_at_r_and_trains_the_leader() -> None:
    measure = table()
    search(build_plan(settings("all-at-ratio"), tree(), FULL), measure)
    at_ratio = [(c, s) for c, s in measure.runs if s == FULL // 8]
    assert [c for c, _ in at_ratio] == list(tree().candidates)
    assert [(c, s) for c, s in measure.runs if s != FULL // 8] == [
        (Candidate("siglip", "qwen"), FULL)
    ]
