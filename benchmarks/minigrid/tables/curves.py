"""What curves predict of r = 1 where every pair has one: rules and schedules, without a search.

A search trains few pairs far enough for a curve. Here all are given their scores up to R, so that
rules are compared on the same pairs; what they predict is held against the pairs' scores at r = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.ablations import LastScoreRanker, WindowRanker
from benchmarks.minigrid.tables.paper import DELTA
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.ranking import PaperRanker, Ranker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate

# Largest ratios R up to which curves are fitted.
MAX_RATIOS = (0.125, 0.25, 0.5)
# The schedule of the grid itself.
MAIN_SCHEDULE = "constant"


@dataclass(frozen=True)
class CurveFigures:
    """How well scores up to R predict those at r = 1.

    Attributes:
        tau: weighted tau of predictions and truth.
        error: mean absolute error, 0..1.
        bias: mean of prediction less truth.
        final: mean true score.
    """

    tau: float
    error: float
    bias: float
    final: float


def rules(tree: ClusterTree, full_samples: int) -> dict[str, Ranker]:
    """Ways to predict, by name."""
    return {
        "last score": LastScoreRanker(tree, full_samples),
        "the paper's line": PaperRanker(tree, full_samples, delta=DELTA),
        "last 3, no shrinkage": WindowRanker(tree, full_samples, window="last", shrink=False),
        "last 3": WindowRanker(tree, full_samples, window="last"),
        "all points": WindowRanker(tree, full_samples, window="all"),
        "stable window, no shrinkage": WindowRanker(tree, full_samples, shrink=False),
        "stable window, no run noise": WindowRanker(tree, full_samples, runs=False),
        "stable window (ours)": Ranker(tree, full_samples),
    }


def judge_curves(
    ranker: Ranker, points: Mapping[Candidate, tuple[Measurement, ...]], ratio: float
) -> CurveFigures:
    """Predict from the points up to a ratio, and compare with the last point.

    Args:
        ranker: the rule.
        points: of each candidate, by ascending samples, the last at r = 1.
        ratio: R.
    """
    full = next(iter(points.values()))[-1].samples
    history = History(
        {
            candidate: CandidateHistory(tuple(m for m in own if m.samples <= ratio * full))
            for candidate, own in points.items()
        }
    )
    found = {e.candidate: e.value for e in ranker.rank_trained(history)}
    predicted = np.array([found[candidate] for candidate in points])
    truth = np.array([own[-1].score for own in points.values()])
    return CurveFigures(
        weighted_tau(predicted.tolist(), truth.tolist()),
        float(np.abs(predicted - truth).mean()),
        float((predicted - truth).mean()),
        float(truth.mean()),
    )


def compare_rules(data: TaskData) -> dict[str, dict[str, CurveFigures]]:
    """All rules at all ratios on one task, by rule and "R"."""
    grid = data.grid
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    points = {
        c: tuple(grid.measurement(c, samples) for samples in data.samples) for c in grid.candidates
    }
    return {
        name: {str(ratio): judge_curves(ranker, points, ratio) for ratio in MAX_RATIOS}
        for name, ranker in rules(tree, grid.full_samples).items()
    }


def compare_schedules(data: TaskData) -> dict[str, CurveFigures]:
    """The product's rule under every schedule on the same pairs; empty where none were run.

    A schedule's truth is its own score at r = 1. Its noise is taken from the grid's own runs.
    """
    if data.schedules is None:
        return {}
    grid, other = data.grid, data.schedules
    pairs = [grid.candidates[row] for row in other.pairs]
    ranker = Ranker(ClusterTree.flat(grid.encoders, grid.llms), grid.full_samples)
    main = {c: tuple(grid.measurement(c, samples) for samples in other.samples) for c in pairs}
    found = {MAIN_SCHEDULE: judge_curves(ranker, main, MAX_RATIOS[0])}
    for number, name in enumerate(other.names):
        points = {
            c: tuple(
                Measurement(m.samples, float(score), m.stderr, m.documents)
                for m, score in zip(main[c], other.scores[row, number], strict=True)
            )
            for row, c in enumerate(pairs)
        }
        found[name] = judge_curves(ranker, points, MAX_RATIOS[0])
    return found
