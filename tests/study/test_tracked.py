"""What trackers are told of a pair's rung: numbers of the present ranking and costs."""

from __future__ import annotations

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.study.tracked import tracked_standing
from tests.search.synthetic import history_up_to, plan, table

TOPS = {("siglip", "qwen"): 1024, ("clip", "qwen"): 1024, ("dino", "mistral"): 256}


def test_rank_estimate_and_costs_are_those_of_the_pairs_with_scores() -> None:
    chosen, history = plan(), history_up_to(TOPS)
    ranking = chosen.ranker.rank_trained(history)
    found = {pair: tracked_standing(chosen, history, Candidate(*pair)) for pair in TOPS}
    assert [found[pair]["rank"] for pair in TOPS] == [1, 2, 3]
    for estimate in ranking:
        values = found[(estimate.candidate.vision_encoder, estimate.candidate.llm)]
        assert values["estimate/score"] == estimate.value
        assert values["estimate/low"] == estimate.low <= estimate.high == values["estimate/high"]
        assert values["device_seconds/pair"] == estimate.seconds > 0
        assert values["ranked"] == 3
    whole = found["siglip", "qwen"]["device_seconds/study"]
    assert whole == pytest.approx(sum(values["device_seconds/pair"] for values in found.values()))
    newest = table()(Candidate("siglip", "qwen"), 1024)
    assert found["siglip", "qwen"]["score"] == newest.score
    assert found["siglip", "qwen"]["stderr"] == newest.stderr


def test_a_pair_without_a_score_on_all_tasks_has_none() -> None:
    history = history_up_to(TOPS)
    pair = Candidate("dino", "llama")
    unscored = History({**history.candidates, pair: CandidateHistory()})
    assert tracked_standing(plan(), unscored, pair) == {}
