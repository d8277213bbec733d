"""`joint` with one thing changed: everything else is as in the package."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rivals_search.joint_methods import (
    PriorRanker,
    changed,
    no_sharing,
    top_two,
    variance,
    without_drift,
    without_growth,
    without_interaction,
    without_sharing,
)
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.problem import Problem
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.joint.effects import PRIOR, Hyperparameters, Hyperprior
from mordal_optuna.search.joint.posterior import JointModel


def test_the_start_is_that_of_joint_and_then_the_choices_differ() -> None:
    problem = Problem(synthetic_grid(4), (), 3.0, seed=2)
    ours = run_light(METHODS["joint"].set_up(problem).plan, problem.grid).simulated.jobs
    for build in (top_two, variance):
        setup = build(problem)
        assert setup.before == METHODS["joint"].set_up(problem).before
        jobs = run_light(setup.plan, problem.grid).simulated.jobs
        assert set(jobs[:14]) == set(ours[:14])
        assert jobs != ours


def test_with_nothing_changed_the_search_and_its_ranking_are_those_of_joint() -> None:
    problem = Problem(synthetic_grid(4), (), 3.0, seed=2)
    ours, same = METHODS["joint"].set_up(problem), changed(problem)
    assert same.before == ours.before
    found, again = (run_light(setup.plan, problem.grid) for setup in (ours, same))
    assert found.simulated == again.simulated
    assert ours.plan.ranking(found.history) == same.plan.ranking(again.history)


def test_what_is_not_compared_is_not_paid_and_not_similar() -> None:
    problem = Problem(synthetic_grid(4), (), 3.0, seed=2)
    both, encoders, nothing = (
        changed(problem, compared=c) for c in ("both", "encoders", "nothing")
    )
    assert encoders.before.features == both.before.features
    assert encoders.before.warmup == 0 < both.before.warmup
    assert nothing.before.total == 0
    similarities = encoders.plan._tree.similarities
    assert similarities
    assert similarities.encoders is not None
    assert similarities.llms is None
    assert nothing.plan._tree.similarities is None


def test_options_are_those_of_a_study_file() -> None:
    problem = Problem(synthetic_grid(4), (), 3.0, seed=2)
    for pairs in (1, 3):
        plan = changed(problem, options={"start_pairs": pairs, "start_ratio": 1 / 16}).plan
        jobs = run_light(plan, problem.grid).simulated.jobs
        assert [rung for _, rung in jobs[: 7 * pairs]] == [1024] * 7 * pairs


def test_what_is_switched_off_stays_off() -> None:
    """Fitted to scores that have all of it, the effect is still none."""
    grid = synthetic_grid(4)
    scores = [(c, m) for c in grid.candidates[::2] for m in grid.measurements(c)]

    def fitted(prior: Hyperprior) -> Hyperparameters:
        return JointModel(scores, grid.candidates, grid.full_samples, prior=prior).values

    usual = fitted(PRIOR)
    assert min(usual.spreads) > 0.02
    assert usual.growth > 0.05
    assert max(usual.lengths) < 100
    assert fitted(without_interaction(PRIOR)).spreads[2] < 0.005
    assert min(fitted(without_drift(PRIOR)).lengths) > 1000
    assert fitted(without_growth(PRIOR)).growth < 0.005
    assert max(fitted(without_sharing(PRIOR)).spreads[:2]) < 0.005


def test_without_sharing_no_models_are_compared() -> None:
    assert no_sharing(Problem(synthetic_grid(4), (), 3.0, seed=2)).before.total == 0


def test_without_sharing_a_score_says_nothing_of_pairs_with_the_same_part() -> None:
    """Beyond the common curve: all pairs without scores are estimated alike."""
    grid = synthetic_grid(4)
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    ranker = PriorRanker(tree, grid.full_samples, without_sharing(PRIOR))
    rung = grid.full_samples // 8
    done = grid.candidates[:7]  # all pairs of one encoder
    history = History({c: CandidateHistory((grid.measurement(c, rung),)) for c in done})
    mean = ranker.posterior(history).mean
    assert np.ptp(mean[7:]) == pytest.approx(0, abs=1e-3)
    assert np.ptp(mean[:7]) > 0.05
