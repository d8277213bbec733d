"""Bootstraps against the thing itself: the whole experiment repeated with the truth known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import (
    Resampler,
    full_data,
    percentile_interval,
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
TRUE = {candidate: TRUTH.truth(candidate) for candidate in TRUTH.candidates}
# Runs with further seeds of the first pairs; the others have a single run.
FURTHER = (*range(15), *range(8))


def experiment(number: int) -> TaskData:
    """Other documents and other seeds, drawn from the truth."""
    rng = np.random.default_rng([9, number])
    true = np.array([curve.score for curve in TRUTH.curves])
    pairs = [*range(len(true)), *FURTHER]
    runs = np.clip(true[pairs] + rng.normal(0, 0.02, (len(pairs), 1)), 0, 1)
    groups = DOCUMENTS // CLUSTER
    difficulty, clusters = rng.random(groups), np.repeat(np.arange(groups), CLUSTER)
    own = difficulty[clusters] + rng.normal(0, 0.1, (*runs.shape, DOCUMENTS))
    right = (own < runs[..., None]).astype(float)
    first, further = right[: len(true)], right[len(true) :]
    sums = first.reshape(*true.shape, groups, CLUSTER).sum(axis=3)
    scores, stderr = weighted_scores(sums, np.full(groups, float(CLUSTER)), np.ones(groups))
    grid = with_scores(TRUTH.model_copy(update={"test_documents": DOCUMENTS}), scores, stderr)
    return TaskData(grid, grid, first, clusters, FURTHER, further)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("method", ["mordal", "all-at-ratio"])
def test_replicates_spread_as_experiments_do(method: str) -> None:
    """The means over replicates are a little worse than the real ones, never better.

    The measured truth is noisier than the real one, and so are the curves from which replicates
    are drawn.
    """
    data = [experiment(number) for number in range(EXPERIMENTS)]
    found = [light_replay(own.grid, method, draws=1, truths=TRUE) for own in data]
    taus = np.array([run.tau for run in found])
    means, spreads, inside, regrets = [], [], 0, []
    for own in data[:BOOTSTRAPPED]:
        resampler, whole = Resampler(own), full_data(own)
        drawn = [resampler.replicate(number) for number in range(REPLICATES)]
        again = [light_replay(seen.grid, method, draws=1, truths=seen.truth) for seen in drawn]
        interval = percentile_interval(None, [r.tau for r in again])
        means.append(interval.mean)
        spreads.append(np.std([r.tau for r in again]))
        inside += interval.low <= taus.mean() <= interval.high
        regrets.append(np.mean([regret(whole.truth, r.picked) for r in again]))
    assert -0.12 < np.mean(means) - taus.mean() < 0.02
    assert 0.75 < np.mean(spreads) / taus.std() < 2
    assert inside >= 0.6 * BOOTSTRAPPED  # below .95, since the means are lower than the real ones
    true = np.mean([regret(TRUE, run.picked) for run in found])
    assert true < np.mean(regrets) < 3 * true
