"""`joint` with one thing changed: everything else is as in the package."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rivals_search.joint_methods import (
    OwnCurvesRanker,
    knowledge_gradient,
    no_sharing,
    top_two,
)
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.problem import Problem
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import CandidateHistory, History


def test_the_start_is_that_of_joint_and_then_the_choices_differ() -> None:
    problem = Problem(synthetic_grid(4), (), 3.0, seed=2)
    ours = run_light(METHODS["joint"].set_up(problem).plan, problem.grid).simulated.jobs
    for build in (top_two, knowledge_gradient):
        setup = build(problem)
        assert setup.before == METHODS["joint"].set_up(problem).before
        jobs = run_light(setup.plan, problem.grid).simulated.jobs
        assert set(jobs[:14]) == set(ours[:14])
        assert jobs != ours


def test_without_sharing_no_models_are_compared() -> None:
    assert no_sharing(Problem(synthetic_grid(4), (), 3.0, seed=2)).before.total == 0


def test_without_sharing_a_score_says_nothing_of_pairs_with_the_same_part() -> None:
    """Beyond the common curve: all pairs without scores are estimated alike."""
    grid = synthetic_grid(4)
    ranker = OwnCurvesRanker(ClusterTree.flat(grid.encoders, grid.llms), grid.full_samples)
    rung = grid.full_samples // 8
    done = grid.candidates[:7]  # all pairs of one encoder
    history = History({c: CandidateHistory((grid.measurement(c, rung),)) for c in done})
    mean = ranker.posterior(history).mean
    assert np.ptp(mean[7:]) == pytest.approx(0, abs=1e-3)
    assert np.ptp(mean[:7]) > 0.05
