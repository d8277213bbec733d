"""Figures of the truth: spread, noise, interaction, log-linearity, silver bullets.

Symbols:
    M, L        encoders, LLMs
    y_ij        ln error of encoder i with LLM j at r = 1, floored at half a document
    SS_E, SS_L  sums of squares of main effects: L sum (y_i. - y..)^2, M sum (y_.j - y..)^2
    SS_I        residual sum of squares: sum (y_ij - y_i. - y_.j + y..)^2
    y*_ij       y_ij of a bootstrap replicate (redrawn documents, redrawn seeds)
    N_k         contribution of noise to SS_k: the mean over replicates of SS_k of y* - y
    p           smallest number of points of a curve

With one score per pair, the table alone cannot separate interaction from noise. The noise is known
from bootstraps instead, and N_k is subtracted from every SS_k. Noise that all pairs share (the
same documents, harder or easier) cancels in N_k, as it does in SS_k. Negative shares become 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.paper import DELTA
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.search.curves import STABLE_LEVEL, fit_log_linear, stable_window
from mordal_optuna.search.paper_curves import fit_as_in_paper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.data import TaskData

_POINTS = 3
# Two-sided 95 % of the normal distribution.
_Z = 1.959964


@dataclass(frozen=True)
class Squares:
    """Sums of squares of a two-way table."""

    encoder: float
    llm: float
    interaction: float

    @property
    def total(self) -> float:
        """Total sum of squares."""
        return self.encoder + self.llm + self.interaction


@dataclass(frozen=True)
class Truth:
    """Figures of one task's grid.

    Attributes:
        best: name of the best pair.
        best_score: highest score at r = 1.
        median_score: median score at r = 1.
        worst_score: lowest score at r = 1.
        document_noise: standard deviation of a score over other documents, mean over pairs.
        seed_noise: standard deviation of a score over seeds, root mean square over pairs.
        seed_tau: weighted tau of scores at r = 1 between seeds, mean over ordered pairs of seeds;
            no search can be expected to exceed it.
        difference_noise: standard deviation of the best pair's lead over documents and seeds, mean
            over the other pairs.
        within_noise: number of pairs whose distance from the best is below 1.96 times the standard
            deviation of that distance, including the best.
        raw: shares of encoder, LLM and interaction in the sum of squares of ln error.
        corrected: the same shares with the noise removed.
        accepted: share of pairs whose points on all rungs agree with one log-linear curve by the
            chi-square at the 5 % level.
        accepted_to_ratio: the same share for the rungs up to R alone.
        accepted_paper: share of pairs whose last p rungs up to R have a loss below the paper's
            delta.
        regime: share of pairs whose stable window begins at each rung.
        tau: weighted tau of each rung's scores with those at r = 1.
        spearman: Spearman's correlation of each rung's scores with those at r = 1.
    """

    best: str
    best_score: float
    median_score: float
    worst_score: float
    document_noise: float
    seed_noise: float
    seed_tau: float
    difference_noise: float
    within_noise: int
    raw: tuple[float, float, float]
    corrected: tuple[float, float, float]
    accepted: float
    accepted_to_ratio: float
    accepted_paper: float
    regime: tuple[float, ...]
    tau: tuple[float, ...]
    spearman: tuple[float, ...]


@dataclass(frozen=True)
class SilverBullet:
    """Whether one pair suits all tasks.

    Attributes:
        bullets: pairs within noise of the best on every task.
        average: the pair with the highest mean score.
        regrets: score, 0..1, that this pair loses to the best, by task.
        most_tasks: largest number of tasks on which one pair is within noise of the best.
    """

    bullets: tuple[str, ...]
    average: str
    regrets: dict[str, float]
    most_tasks: int


def two_way(table: np.ndarray) -> Squares:
    """Sums of squares of a table with one value per cell, M x L."""
    encoders, llms = table.shape
    mean = table.mean()
    row, column = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    rest = table - mean - row[:, None] - column[None]
    return Squares(
        float(llms * (row**2).sum()), float(encoders * (column**2).sum()), float((rest**2).sum())
    )


def shares(squares: Squares) -> tuple[float, float, float]:
    """Encoder, LLM and interaction as shares of their sum; all 0 if the sum is 0."""
    parts = np.array([squares.encoder, squares.llm, squares.interaction])
    total = parts.sum()
    encoder, llm, interaction = (parts / total if total > 0 else parts * 0).tolist()
    return encoder, llm, interaction


def without_noise(squares: Squares, noise: Sequence[Squares]) -> Squares:
    """Sums of squares less the mean contribution of noise, at least 0.

    Args:
        squares: sums of squares of the table.
        noise: sums of squares of y* - y, one per replicate.
    """
    return Squares(
        max(0.0, squares.encoder - float(np.mean([n.encoder for n in noise]))),
        max(0.0, squares.llm - float(np.mean([n.llm for n in noise]))),
        max(0.0, squares.interaction - float(np.mean([n.interaction for n in noise]))),
    )


def log_errors(data: TaskData, scores: np.ndarray) -> np.ndarray:
    """Table of y, M x L.

    Args:
        data: the task.
        scores: scores of the pairs at r = 1.
    """
    errors = np.log(np.maximum(1 - scores, 0.5 / data.grid.test_documents))
    return errors.reshape(len(data.grid.encoders), len(data.grid.llms))


def seed_noise(scores: np.ndarray) -> float:
    """Standard deviation over seeds, root mean square over pairs; scores are pairs x seeds."""
    return float(np.sqrt(scores.var(axis=1, ddof=1).mean()))


def seed_tau(scores: np.ndarray) -> float:
    """Mean weighted tau between seeds; scores are pairs x seeds."""
    columns = scores.T.tolist()
    return float(np.mean([weighted_tau(a, b) for a, b in permutations(columns, 2)]))


def lead_noise(final: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Standard deviation of the best pair's lead over every pair; 0 over itself.

    Args:
        final: scores at r = 1, one per pair.
        replicates: redrawn scores at r = 1, replicates x pairs.
    """
    best = int(final.argmax())
    return (replicates[:, [best]] - replicates).std(axis=0, ddof=1)


def near_best(final: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Mask of the pairs within noise of the best, including the best.

    The arguments are those of `lead_noise`.
    """
    return np.less_equal(final.max() - final, _Z * lead_noise(final, replicates))


def final_scores(data: TaskData, count: int) -> np.ndarray:
    """Scores at r = 1 with redrawn documents and seeds, replicates x pairs.

    Args:
        data: the task.
        count: number of replicates.
    """
    resampler = Resampler(data)
    return np.array([resampler.scores(number)[0][:, -1] for number in range(count)])


def describe(data: TaskData, *, replicates: int, max_ratio: float = 0.125) -> Truth:
    """Compute the figures of one task's grid.

    Args:
        data: the task.
        replicates: number of bootstraps for the noise.
        max_ratio: largest ratio R of a search.
    """
    final, redrawn = data.scores[:, -1], final_scores(data, replicates)
    resampler = Resampler(data)
    documents = [resampler.documents_redrawn(n)[0][:, -1] for n in range(replicates)]
    y = log_errors(data, final)
    squares = two_way(y)
    noise = [two_way(log_errors(data, scores) - y) for scores in redrawn]
    best = int(final.argmax())
    lead = np.delete(lead_noise(final, redrawn), best)
    return Truth(
        best=str(data.grid.candidates[best]),
        best_score=float(final.max()),
        median_score=float(np.median(final)),
        worst_score=float(final.min()),
        document_noise=float(np.std(documents, axis=0, ddof=1).mean()),
        seed_noise=seed_noise(data.seed_scores[:, :, -1]),
        seed_tau=seed_tau(data.seed_scores[:, :, -1]),
        difference_noise=float(lead.mean()),
        within_noise=int(near_best(final, redrawn).sum()),
        raw=shares(squares),
        corrected=shares(without_noise(squares, noise)),
        **_curves(data, max_ratio),
        tau=tuple(weighted_tau(scores, final.tolist()) for scores in data.scores.T.tolist()),
        spearman=tuple(
            float(stats.spearmanr(scores, final).statistic) for scores in data.scores.T
        ),
    )


def _curves(data: TaskData, max_ratio: float) -> dict:
    grid, rungs = data.grid, data.samples
    whole, early, paper, begins = [], [], [], []
    for candidate in grid.candidates:
        points = [grid.measurement(candidate, samples) for samples in rungs]
        low = [point for point in points if point.samples <= max_ratio * grid.full_samples]
        whole.append(fit_log_linear(points).goodness >= STABLE_LEVEL)
        early.append(fit_log_linear(low).goodness >= STABLE_LEVEL)
        paper.append(fit_as_in_paper(low, points_needed=_POINTS, delta=DELTA) is not None)
        begins.append(stable_window(points, least=_POINTS)[0].samples)
    return {
        "accepted": float(np.mean(whole)),
        "accepted_to_ratio": float(np.mean(early)),
        "accepted_paper": float(np.mean(paper)),
        "regime": tuple(begins.count(samples) / len(begins) for samples in rungs),
    }


def silver_bullet(tasks: Sequence[TaskData], *, replicates: int) -> SilverBullet:
    """Find pairs within noise of the best on all tasks, and the regrets of the best on average.

    Args:
        tasks: tasks of the same pool.
        replicates: number of bootstraps for the noise.
    """
    final = np.array([data.scores[:, -1] for data in tasks])
    near = np.array(
        [
            near_best(scores, final_scores(data, replicates))
            for scores, data in zip(final, tasks, strict=True)
        ]
    )
    names = [str(candidate) for candidate in tasks[0].grid.candidates]
    average = int(final.mean(axis=0).argmax())
    return SilverBullet(
        bullets=tuple(name for name, ok in zip(names, near.T.tolist(), strict=True) if all(ok)),
        average=names[average],
        regrets={
            data.task: float(scores.max() - scores[average])
            for scores, data in zip(final, tasks, strict=True)
        },
        most_tasks=int(near.sum(axis=0).max()),
    )
