"""Predictions of the score at r = 1 by curves of all pairs: rules and schedules, without a search.

A search trains few pairs far enough for a curve. Here every pair has its scores up to R, so that
rules are compared on the same pairs. Predictions are compared with the same runs' scores at r = 1.
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
from mordal_optuna.search.rankers import PaperRanker
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate

# Largest ratios R up to which curves are fitted.
MAX_RATIOS = (0.125, 0.25, 0.5)
# Learning-rate schedule of the grid.
MAIN_SCHEDULE = "constant"


@dataclass(frozen=True)
class CurveFigures:
    """How well scores up to R predict those at r = 1.

    Attributes:
        tau: weighted tau of predictions and truth.
        error: mean absolute error, 0..1.
        bias: mean of prediction less truth, signed.
        final: mean score at r = 1.
    """

    tau: float
    error: float
    bias: float
    final: float


def rules(tree: ClusterTree, full_samples: int) -> dict[str, Ranker]:
    """Rules of prediction, by name."""
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
        points: measurements of each candidate by ascending samples, the last at r = 1.
        ratio: largest ratio R of the points used.
    """
    full = next(iter(points.values()))[-1].samples
    history = History(
        {
            candidate: CandidateHistory(tuple(m for m in curve if m.samples <= ratio * full))
            for candidate, curve in points.items()
        }
    )
    predictions = {e.candidate: e.value for e in ranker.rank_trained(history)}
    predicted = np.array([predictions[candidate] for candidate in points])
    truth = np.array([curve[-1].score for curve in points.values()])
    return CurveFigures(
        weighted_tau(predicted.tolist(), truth.tolist()),
        float(np.abs(predicted - truth).mean()),
        float((predicted - truth).mean()),
        float(truth.mean()),
    )


def compare_rules(data: TaskData) -> dict[str, dict[str, CurveFigures]]:
    """Figures of all rules at all ratios on one task, by rule and ratio."""
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
    """Figures of the product's rule by schedule, on the same pairs; empty where none were run.

    The truth of a schedule is the score at r = 1 under this schedule. Standard errors are those of
    the grid's runs.
    """
    if data.schedules is None:
        return {}
    grid, other = data.grid, data.schedules
    pairs = [grid.candidates[row] for row in other.pairs]
    ranker = Ranker(ClusterTree.flat(grid.encoders, grid.llms), grid.full_samples)
    main = {c: tuple(grid.measurement(c, samples) for samples in other.samples) for c in pairs}
    by_schedule = {MAIN_SCHEDULE: judge_curves(ranker, main, MAX_RATIOS[0])}
    for number, name in enumerate(other.names):
        points = {
            c: tuple(
                Measurement(m.samples, float(score), m.stderr, m.documents)
                for m, score in zip(main[c], other.scores[row, number], strict=True)
            )
            for row, c in enumerate(pairs)
        }
        by_schedule[name] = judge_curves(ranker, points, MAX_RATIOS[0])
    return by_schedule
