"""Bootstraps against the thing itself: the whole experiment repeated with the truth known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import (
    Resampler,
    centred_interval,
    weighted_scores,
    with_scores,
)
from benchmarks.minigrid.tables.data import TaskData
from benchmarks.minigrid.tables.methods import light_replay, regret
from mordal_optuna.replay.synthetic import synthetic_grid

SIDE, DOCUMENTS, CLUSTER = 5, 320, 2
EXPERIMENTS, BOOTSTRAPPED, REPLICATES = 40, 6, 20
# So many documents that its scores are the truth.
TRUTH = synthetic_grid(3, encoders=SIDE, llms=SIDE, documents=100_000)


def experiment(number: int) -> TaskData:
    """Other documents and other seeds, drawn from the truth."""
    rng = np.random.default_rng([9, number])
    true = np.array([curve.score for curve in TRUTH.curves])
    seeds = np.clip(true[:, None] + rng.normal(0, 0.02, (len(true), 3, 1)), 0, 1)
    groups = DOCUMENTS // CLUSTER
    difficulty, clusters = rng.random(groups), np.repeat(np.arange(groups), CLUSTER)
    own = difficulty[clusters] + rng.normal(0, 0.1, (*seeds.shape, DOCUMENTS))
    right = (own < seeds[..., None]).astype(float)
    sums = right[:, 0].reshape(*true.shape, groups, CLUSTER).sum(axis=3)
    scores, stderr = weighted_scores(sums, np.full(groups, float(CLUSTER)), np.ones(groups))
    grid = with_scores(TRUTH.model_copy(update={"test_documents": DOCUMENTS}), scores, stderr)
    rows = tuple(range(9))
    return TaskData(grid, grid, right[:, 0], clusters, rows, right[:9].mean(axis=3))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mordal", "all-at-ratio"])
def test_replicates_spread_as_experiments_do(method: str) -> None:
    """Tau's intervals hold the mean over experiments; regret is of the right size."""
    data = [experiment(number) for number in range(EXPERIMENTS)]
    found = [light_replay(own.grid, method, draws=1) for own in data]
    taus = np.array([run.tau for run in found])
    spreads, inside, regrets = [], 0, []
    for own, run in zip(data[:BOOTSTRAPPED], found, strict=False):
        resampler = Resampler(own)
        grids = [resampler.grid(number) for number in range(REPLICATES)]
        again = [light_replay(grid, method, draws=1) for grid in grids]
        interval = centred_interval(run.tau, [r.tau for r in again], least=-1, most=1)
        spreads.append(np.std([r.tau for r in again]))
        inside += interval.low <= taus.mean() <= interval.high
        regrets.append(np.mean([regret(own.grid, r.picked) for r in again]))
    assert 0.75 < np.mean(spreads) / taus.std() < 1.4
    assert inside >= 0.8 * BOOTSTRAPPED
    true = np.mean([regret(TRUTH, run.picked) for run in found])
    assert 0.5 * true < np.mean(regrets) < 3 * true
