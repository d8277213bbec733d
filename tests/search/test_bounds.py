"""Bounds that docstrings promise are checked where an object is built or a function called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.bounds import require
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import choose_threshold, cluster_models
from mordal_optuna.search.curves import (
    Measurement,
    SlopePrior,
    fit_log_linear,
    fit_pool,
    stable_window,
)
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.history import History
from mordal_optuna.search.joint.posterior import joint_posterior
from mordal_optuna.search.likelihood import pooled_line
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.paper_curves import fit_as_in_paper
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.rankers import AdditiveRanker, PaperRanker
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.rungs import build_rungs
from mordal_optuna.search.standings import standings
from tests.search.synthetic import FULL, RUNGS, plan, tree

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS = [Measurement(n, 0.5, 0.01, 100) for n in (128, 256)]
PAIR = Candidate("clip", "llama")


def rungs(**changes: Any) -> object:
    defaults = {"full_samples": 1000, "first_ratio": 0.03, "max_ratio": 0.125, "eta": 2}
    return build_rungs(**{**defaults, **changes})


CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: MordalPlan(tree(), RUNGS, FULL, eta=1), "eta: got 1; it must be at least 2"),
    (lambda: MordalPlan(tree(), RUNGS, FULL, top_clusters=0), "top_clusters: got 0; .* least 1"),
    (lambda: MordalPlan(tree(), RUNGS, FULL, fit_points=1), "fit_points: got 1; .* least 2"),
    (lambda: MordalPlan(tree(), RUNGS, 512), "the last must be at most 512"),
    (lambda: Finish(finalists=-1), "finalists: got -1; .* at least 0"),
    (lambda: Finish(eta=1), "eta: got 1; .* at least 2"),
    (lambda: Budget(0.0), "device_hours: got 0.0; .* above 0"),
    (lambda: Budget(None, -1.0), "spent_seconds: got -1.0; .* at least 0"),
    (lambda: Ranker(tree(), 0), "full_samples: got 0; .* at least 1"),
    (lambda: Ranker(tree(), FULL, points=1), "points: got 1; .* at least 2"),
    (lambda: Ranker(tree(), FULL, confidence=1.0), "confidence: got 1.0; .* above 0 and below 1"),
    (lambda: Ranker(tree(), FULL, confidence=0.0), "confidence: got 0.0; .* above 0 and below 1"),
    (lambda: PaperRanker(tree(), FULL, delta=0.0), "delta: got 0.0; .* above 0"),
    (lambda: AdditiveRanker(tree(), FULL, centre=PAIR, points=0), "points: got 0"),
    (lambda: LogLinearHalvingPruner(plan(), eta=1), "eta: got 1; .* at least 2"),
    (lambda: rungs(full_samples=0), "full_samples: got 0; .* at least 1"),
    (lambda: rungs(max_ratio=1.5), "max_ratio: got 1.5; .* above 0 and at most 1"),
    (lambda: rungs(first_ratio=0.5), "first_ratio: got 0.5; .* at most max_ratio, 0.125"),
    (lambda: rungs(first_ratio=0.0), "first_ratio: got 0.0; .* above 0"),
    (lambda: rungs(eta=1), "eta: got 1; .* at least 2"),
    (lambda: rungs(multiple=0), "multiple: got 0; .* at least 1"),
    (lambda: Measurement(0, 0.5), "samples: got 0; .* at least 1"),
    (lambda: SlopePrior(0.0, 0.0), "spread: got 0.0; .* above 0"),
    (lambda: fit_log_linear(POINTS, run_noise=-0.1), "run_noise: got -0.1; .* at least 0"),
    (lambda: stable_window(POINTS, least=1), "least: got 1; .* at least 2"),
    (lambda: fit_pool({"a": POINTS}, least=1), "least: got 1; .* at least 2"),
    (lambda: fit_as_in_paper(POINTS, points_needed=1, delta=1.0), "points_needed: got 1"),
    (lambda: fit_as_in_paper(POINTS, points_needed=2, delta=0.0), "delta: got 0.0"),
    (lambda: pooled_line([]), "measurements: got .*; .* at least one measurement"),
    (lambda: joint_posterior([], [PAIR], 0), "full_samples: got 0; .* at least 1"),
    (lambda: cluster_models(["a"], [[1.0]], threshold=1.1), "threshold: got 1.1; .* -1 to 1"),
    (lambda: choose_threshold(["a"], [[1.0]], least=-1.1), "least: got -1.1; .* -1 to 1"),
    (lambda: standings(plan(), History(), [], PAIR, run_noise=-1.0), "run_noise: got -1.0"),
]


@pytest.mark.parametrize(("build", "sentence"), CASES)
def test_a_value_out_of_its_bounds_is_refused_with_one_sentence(
    build: Callable[[], object], sentence: str
) -> None:
    with pytest.raises(SearchError, match=sentence):
        build()


def test_a_value_inside_its_bounds_is_accepted_and_nan_is_not() -> None:
    require(True, "eta", 2, "at least 2")
    nan = float("nan")
    with pytest.raises(SearchError, match="confidence: got nan"):
        Ranker(tree(), FULL, confidence=nan)
