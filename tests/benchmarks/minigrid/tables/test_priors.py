"""Priors from fits: weighed by sets, without the task itself, and fits that the grid decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables import priors
from benchmarks.minigrid.tables.priors import (
    NAMES,
    Fitted,
    distances,
    fit_tasks,
    fitted,
    prior_of,
    prior_without,
    report,
    scores_of,
)
from mordal_optuna.errors import GridError
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint.effects import PRIOR

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def fit(shift: float, slope: float = -0.1) -> Fitted:
    return Fitted(PRIOR.logs + shift, slope)


def test_both_sets_weigh_alike_however_many_grids_they_have() -> None:
    few, many = [fit(1.0), fit(1.0)], [fit(-1.0)] * 10
    found = prior_of(few, many)
    own = np.arange(len(NAMES)) < 9
    assert found.logs[own] == pytest.approx(PRIOR.logs[own])
    assert np.array(found.spreads)[own] == pytest.approx(1.0)
    # what only likelihoods tell is taken from the tasks alone
    assert np.log(found.medians[9]) == pytest.approx(PRIOR.logs[9] + 1.0)
    assert found.spreads[10] == pytest.approx(0.0)


def test_distances_are_in_the_priors_own_spreads() -> None:
    found = prior_of([fit(-0.5), fit(0.5)], [fit(0.5)] * 3)
    assert distances(found)[:9] == pytest.approx(-0.25 / np.array(found.spreads)[:9])


def test_the_spread_inside_a_set_counts() -> None:
    found = prior_of([fit(-0.5), fit(0.5)], [fit(0.0)] * 3)
    assert found.spreads[0] == pytest.approx(0.5)


def test_a_prior_knows_nothing_of_the_task_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = {"gqa": fit(5.0), "ai2d": fit(0.1), "chartqa": fit(-0.1)}
    synthetic = (fit(0.0), fit(0.0))
    monkeypatch.setattr(priors, "_all_fits", lambda _: (fits, synthetic))
    assert prior_without("gqa") == prior_of([fits["ai2d"], fits["chartqa"]], synthetic)
    assert prior_without("ai2d").medians[0] > 2 * prior_without("gqa").medians[0]
    with pytest.raises(GridError, match="'unknown' was given"):
        prior_without("unknown")


def test_scores_have_the_documents_mean_likelihood(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    assert data.nlls is not None
    scores = scores_of(data.grid, data.nlls)
    assert len(scores) == data.scores.size
    assert scores[1][1].p_correct == pytest.approx(np.exp(-data.nlls[0, 1]).mean())
    assert {m.p_correct for _, m in scores_of(synthetic_grid(0), None)} == {None}


def test_pairs_that_differ_more_have_larger_spreads() -> None:
    grid = synthetic_grid(0, encoders=5, llms=5)
    flat = [
        c.model_copy(update={"score": tuple(0.6 + 0.2 * (s - 0.6) for s in c.score)})
        for c in grid.curves
    ]
    alike = grid.model_copy(update={"curves": tuple(flat)})
    # the copy must not keep what the first one has cached
    alike = type(grid).model_validate(alike.model_dump())
    first, second = fitted(grid), fitted(alike)
    assert np.exp(second.logs[:2]).sum() < 0.5 * np.exp(first.logs[:2]).sum()
    assert abs(second.slope) < abs(first.slope)


def test_the_report_has_a_row_for_every_hyperparameter(tasks: tuple[TaskData, ...]) -> None:
    fits = fit_tasks(tasks)
    third = {**fits, "ai2d": replace(fits["gqa"], logs=fits["gqa"].logs + 0.1)}
    text = report(third, [fit(0.0), fit(0.2)])
    for name in (*NAMES, "slope"):
        assert text.count(f"| {name} |") == 2
    assert "| without | gqa | chartqa | ai2d |" in text
