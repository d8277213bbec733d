"""A comparison of studies in the terminal, in words and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.compared import (
    agreement_sentence,
    compared_json,
    print_compared,
    view_sentence,
)
from mordal_optuna.search.answers import Contrast
from mordal_optuna.search.ranking import Estimate
from mordal_optuna.study.comparing import Agreement, Side, StudiesCompared, View

if TYPE_CHECKING:
    from mordal_optuna.search.joint.posterior import Posterior
    from mordal_optuna.study.result import StudyResult

PICK = Candidate("clip", "llama")
VIEW = View(
    *("grid", "quick", PICK, 3, 9, "worse"),
    Estimate(PICK, 0.6, 0.55, 0.65, "measured", 8192, 1.0),
    *(0.021, -0.004, 0.05, 0.07),
    Contrast(8192, 0.019, 0.01, paired=True),
    0.03,
)


def test_a_view_names_rank_group_and_regret_with_its_noise() -> None:
    assert view_sentence(VIEW) == (
        "quick picked clip + llama: by grid rank 3 of 9, worse than the winner; regret +2.1 "
        "points (-0.4 to +5.0), better than its own winner with probability 0.07; measured at "
        "8,192 samples +1.9 ± 3.0."
    )
    same = View("grid", "quick", PICK, 1, 9, "tied", VIEW.estimate, 0.0, 0.0, 0.0)
    assert view_sentence(same).endswith("by grid the winner as well: regret 0.0 points.")
    assert view_sentence(View("grid", "quick", PICK, None, 9)).endswith("it is not in the pool.")
    failed = view_sentence(View("grid", "quick", PICK, 9, 9, "failed"))
    assert failed.endswith("it could not be trained (rank 9 of 9).")


def test_an_agreement_names_both_coefficients() -> None:
    text = agreement_sentence(Agreement(("a", "b"), 9, 0.5, 0.25))
    assert "a and b rank 9 common pairs with Kendall's tau 0.50 (0.25" in text
    assert "too few pairs" in agreement_sentence(Agreement(("a", "b"), 1, None, None))


@pytest.fixture
def found(result: StudyResult, grid: StudyResult) -> StudiesCompared:
    posterior: Posterior | None = None
    sides = tuple(
        Side(replace(one, study=name), posterior, 0.95)  # type: ignore[arg-type]
        for name, one in (("quick", result), ("grid", grid))
    )
    agreement = Agreement(("quick", "grid"), 9, 0.5, 0.25)
    return StudiesCompared("gqa", sides, (VIEW,), (agreement,), ("one is unfinished",))


def test_the_terminal_has_a_row_for_each_study(found: StudiesCompared) -> None:
    stream = io.StringIO()
    print_compared(found, Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(stream.getvalue().split())
    for side in found.sides:
        shown = side.result
        assert f"{shown.study} {shown.method} {shown.costs.total:,.0f}" in text
        assert str(shown.winner.candidate) in text
    assert view_sentence(VIEW) in text
    assert "note: one is unfinished" in text


def test_the_json_has_the_documented_keys(found: StudiesCompared) -> None:
    plain = json.loads(json.dumps(compared_json(found)))
    assert set(plain) == {"task", "studies", "picks", "agreement", "notes"}
    assert set(plain["studies"][0]) == {
        *("study", "method", "finished", "final", "pairs", "full_samples", "device_seconds"),
        *("full_runs", "pick"),
    }
    (pick,) = plain["picks"]
    assert set(pick) == {
        *("by", "of", "vision_encoder", "llm", "rank", "pairs", "group", "estimate", "regret"),
        *("low", "high", "probability_better", "measured"),
    }
    assert (pick["regret"], pick["measured"]["regret"]) == (0.021, 0.019)
    assert plain["agreement"] == [
        {"studies": ["quick", "grid"], "pairs": 9, "tau": 0.5, "weighted_tau": 0.25}
    ]
