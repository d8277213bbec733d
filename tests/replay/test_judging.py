"""Judging: every figure of a replay follows from the grid's true scores."""

from __future__ import annotations

import json

import pytest

from mordal_optuna.config import SearchSettings
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.costs import PICTURE, SCORED_DOCUMENT, TRAIN_SAMPLE
from mordal_optuna.replay.grid import Grid
from mordal_optuna.replay.judging import ratio
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.run import replay
from mordal_optuna.replay.synthetic import synthetic_grid
from tests.replay.grids import without_costs


@pytest.fixture(scope="module")
def grid() -> Grid:
    return synthetic_grid(0, encoders=4, llms=4)


def test_intervals_estimates_and_groups_are_judged(grid: Grid) -> None:
    """The grid measures all pairs: its groups hold the best, its estimates are the scores."""
    whole = replay(grid, "grid")
    assert whole.held is True
    assert whole.tied is not None
    assert 1 <= whole.tied <= 16
    assert whole.coverage == 1.0
    assert whole.bias == pytest.approx(0.0)
    assert whole.winner_error == pytest.approx(0.0)
    search = replay(grid, "mordal")
    inside = [e.low <= grid.truth(e.candidate) <= e.high for e in search.ranking]
    errors = {e.candidate: e.value - grid.truth(e.candidate) for e in search.ranking}
    assert search.coverage == pytest.approx(sum(inside) / 16)
    assert search.bias == pytest.approx(sum(errors.values()) / 16)
    assert search.winner_error == errors[Candidate(*search.picked)]


def test_json_has_the_agreed_keys(grid: Grid) -> None:
    plain = json.loads(json.dumps(replay(grid, "mordal").to_json()))
    agreed = {"task", "method", "seed", "picked", "regret", "tau", "tau_random_ties", "gain"}
    agreed |= {"gain_projected", "full_runs", "cost", "rungs_run", "stopped_because", "ranking"}
    assert agreed <= set(plain)
    for key in ("cost", "cost_projected"):
        assert set(plain[key]) == {"features", "warmup", "training", "evaluation"}
    assert set(plain["ranking"][0]) == {"encoder", "llm", "estimate", "low", "high", "known"}
    assert isinstance(plain["picked"], list)


def test_projected_costs_count_every_unit_at_its_cost_at_7b(grid: Grid) -> None:
    """All at R = 1/8: sixteen times D / 8 samples, then the rest of D for the finalist."""
    search = replay(grid, "all-at-ratio")
    full = grid.full_samples
    training = (15 * full / 8 + full) * TRAIN_SAMPLE
    evaluation = 17 * grid.test_documents * SCORED_DOCUMENT
    assert search.cost_projected.training == pytest.approx(training)
    assert search.cost_projected.evaluation == pytest.approx(evaluation)
    # A warm-up costs 1 % of a full alignment, so it counts as so many samples.
    compared = replay(grid, "mordal").cost_projected
    assert compared.warmup == pytest.approx(
        round(compared.warmup / (0.01 * full * TRAIN_SAMPLE)) * 0.01 * full * TRAIN_SAMPLE
    )
    assert compared.features == pytest.approx(4 * grid.test_documents * PICTURE)


def test_costs_that_the_file_does_not_list_are_none(grid: Grid) -> None:
    """The pick is judged as before; a projection without warm-ups needs no seconds."""
    free = without_costs(grid)
    for method in ("mordal", "cross", "grid", "all-at-ratio"):
        search = replay(free, method)
        assert search.regret == replay(grid, method).regret
        assert (search.gain, search.full_runs) == (None, None)
        compares = method in ("mordal", "cross")
        assert (search.gain_projected is None) is compares
        plain = json.loads(json.dumps(search.to_json()))
        assert plain["gain"] is None
        assert (plain["cost_projected"] is None) is compares
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None


def test_a_search_that_stopped_the_best_pair_early_has_rejected_it() -> None:
    """The best candidate is worst at the lowest rung: halving loses it, all-at-ratio does not."""
    grid = synthetic_grid(0, encoders=4, llms=4)
    curves = [curve.model_dump() for curve in grid.curves]
    best = max(range(len(curves)), key=lambda n: curves[n]["score"][-1])
    curves[best]["score"] = [0.01, 0.02, 0.03, 0.5, 0.8, 0.99]
    bloomer = Grid.model_validate({**grid.model_dump(), "curves": curves})
    settings = SearchSettings.model_validate(
        {"method": "mordal", "vision_threshold": 1, "llm_threshold": 1, "top_clusters": 2}
    )
    assert replay(bloomer, "mordal", settings=settings).best_rejected
    assert not replay(bloomer, "all-at-ratio").best_rejected


def test_given_true_scores_replace_those_of_the_runs(grid: Grid) -> None:
    """The same search and costs; the answer is judged by the given scores alone."""
    plain = replay(grid, "mordal")
    turned = {candidate: 1 - grid.truth(candidate) for candidate in grid.candidates}
    found = replay(grid, "mordal", truths=turned)
    assert (found.ranking, found.cost) == (plain.ranking, plain.cost)
    winner = Candidate(*found.picked)
    assert found.regret == pytest.approx(max(turned.values()) - turned[winner])
    estimates = [e.value for e in found.ranking]
    assert found.tau == weighted_tau(estimates, [turned[e.candidate] for e in found.ranking])
    value = next(e.value for e in found.ranking if e.candidate == winner)
    assert found.winner_error == pytest.approx(value - turned[winner])
