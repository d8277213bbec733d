"""Figures of the truth: spread, noise, interaction, log-linearity, silver bullets.

The truth of a pair is the mean score of its runs, which differ only in the random seed, at r = 1
on all documents. `bootstrap` says what is compared with it.

Symbols:
    M, L        encoders, LLMs
    S_p         number of runs of pair p
    n_p, s_p    standard deviations of a pair's score: of the truth over other documents, and of
                one run over seeds
    t_p         noise of the truth, sqrt(n_p^2 + s_p^2 / S_p)
    y_ij        ln error of encoder i with LLM j at r = 1, floored at half a document
    SS_E, SS_L  sums of squares of main effects: L sum (y_i. - y..)^2, M sum (y_.j - y..)^2
    SS_I        residual sum of squares: sum (y_ij - y_i. - y_.j + y..)^2
    y*_ij       y_ij of a bootstrap replicate of the truth (redrawn documents, S_p redrawn seeds)
    N_k         contribution of noise to SS_k: the mean over replicates of SS_k of y* - y
    p           smallest number of points of a curve

With one score per pair, the table alone cannot separate interaction from noise. The noise is known
from bootstraps instead, and N_k is subtracted from every SS_k. Noise that all pairs share (the
same documents, harder or easier) cancels in N_k, as it does in SS_k. Negative shares become 0.

s_p is the standard deviation over a pair's own runs where it has several. A pair with a single run
gets the root mean square of the others on the scale of z (see `bootstrap`), times the slope of the
score there: with z = asin(sqrt(score)), 2 sqrt(score (1 - score)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from benchmarks.minigrid.tables.bootstrap import Resampler, on_z
from benchmarks.minigrid.tables.data import mean_of_runs
from benchmarks.minigrid.tables.paper import DELTA
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.search.curves import STABLE_LEVEL, fit_log_linear, stable_window
from mordal_optuna.search.paper_curves import fit_as_in_paper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
class PairTruth:
    """The truth of one pair, scores on 0..1.

    Attributes:
        score: mean score of its runs at r = 1.
        runs: number of its runs.
        documents: standard deviation of the truth over other documents.
        seeds: standard deviation of one run over seeds.
    """

    score: float
    runs: int
    documents: float
    seeds: float

    @property
    def noise(self) -> float:
        """Standard deviation of the truth over documents and seeds."""
        return float(np.hypot(self.documents, self.seeds / self.runs**0.5))


@dataclass(frozen=True)
class Agreement:
    """One run of pairs against the mean of their other runs, on all documents at r = 1.

    Every run is the one in turn: run k of all pairs that have it, against the mean of all other
    runs of the same pairs. Pairs with a single run are left out.

    Attributes:
        pairs: number of pairs with several runs.
        tau: weighted tau of the run's scores with the mean of the others, mean over runs.
        regret: points, 0..1, that the run's best pair loses to the best by the mean of the others,
            mean over runs.
    """

    pairs: int
    tau: float
    regret: float


@dataclass(frozen=True)
class Truth:
    """Figures of one task's grid.

    Attributes:
        best: name of the best pair.
        best_score: its truth, the highest.
        median_score: median of the truth.
        worst_score: lowest truth.
        pairs: truth and noise of every pair, by its name.
        document_noise: n_p, mean over pairs.
        seed_noise: s_p, root mean square over the pairs with several runs.
        truth_noise: t_p, root mean square over pairs.
        agreement: one run against the mean of the others.
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
        tau: weighted tau of each rung's scores with those of the same runs at r = 1.
        spearman: Spearman's correlation of the same.
    """

    best: str
    best_score: float
    median_score: float
    worst_score: float
    pairs: Mapping[str, PairTruth]
    document_noise: float
    seed_noise: float
    truth_noise: float
    agreement: Agreement
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


def seed_noise(data: TaskData) -> np.ndarray:
    """s_p, standard deviation over seeds of one run's score at r = 1, one per pair."""
    scores = data.run_scores[:, -1]
    own, deviations = (_deviations(rows, data.run_pairs) for rows in (scores, on_z(scores)))
    several = data.run_counts > 1
    pooled = np.sqrt((deviations[several] ** 2).mean())
    truth = data.truth[:, -1]
    return np.where(several, own, pooled * 2 * np.sqrt(truth * (1 - truth)))


def _deviations(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Standard deviation over each pair's runs; 0 for a single run."""
    squares = (rows - mean_of_runs(rows, pairs)[pairs]) ** 2
    return np.sqrt(np.bincount(pairs, squares) / np.maximum(np.bincount(pairs) - 1, 1))


def agreement(data: TaskData) -> Agreement:
    """One run of the pairs that have several against the mean of their others."""
    of_pair = [data.run_scores[data.run_pairs == p, -1] for p in range(len(data.values))]
    several = [scores for scores in of_pair if len(scores) > 1]
    taus, regrets = [], []
    for run in range(max(len(scores) for scores in several)):
        having = [scores for scores in several if len(scores) > run]
        if len(having) < 2:
            continue
        one = np.array([scores[run] for scores in having])
        others = np.array([np.delete(scores, run).mean() for scores in having])
        taus.append(weighted_tau(one.tolist(), others.tolist()))
        regrets.append(others.max() - others[one.argmax()])
    return Agreement(len(several), float(np.mean(taus)), float(np.mean(regrets)))


def lead_noise(final: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Standard deviation of the best pair's lead over every pair; 0 over itself.

    Args:
        final: truth of each pair.
        replicates: redrawn truth, replicates x pairs.
    """
    best = int(final.argmax())
    return (replicates[:, [best]] - replicates).std(axis=0, ddof=1)


def near_best(final: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Mask of the pairs within noise of the best, including the best.

    The arguments are those of `lead_noise`.
    """
    return np.less_equal(final.max() - final, _Z * lead_noise(final, replicates))


def redrawn_truths(data: TaskData, count: int) -> np.ndarray:
    """The truth with redrawn documents and seeds, replicates x pairs.

    Args:
        data: the task.
        count: number of replicates.
    """
    resampler = Resampler(data)
    return np.array([resampler.truth_redrawn(number)[:, -1] for number in range(count)])


def pair_truths(data: TaskData, *, replicates: int) -> dict[str, PairTruth]:
    """Truth and noise of every pair, by its name.

    Args:
        data: the task.
        replicates: number of bootstraps for the noise of documents.
    """
    resampler = Resampler(data)
    redrawn = [resampler.truth(number)[:, -1] for number in range(replicates)]
    columns = zip(
        data.truth[:, -1].tolist(),
        data.run_counts.tolist(),
        np.std(redrawn, axis=0, ddof=1).tolist(),
        seed_noise(data).tolist(),
        strict=True,
    )
    names = (str(candidate) for candidate in data.grid.candidates)
    return {name: PairTruth(*row) for name, row in zip(names, columns, strict=True)}


def describe(data: TaskData, *, replicates: int, max_ratio: float = 0.125) -> Truth:
    """Compute the figures of one task's grid.

    Args:
        data: the task.
        replicates: number of bootstraps for the noise.
        max_ratio: largest ratio R of a search.
    """
    truth, same_run = data.truth[:, -1], data.scores[:, -1]
    redrawn = redrawn_truths(data, replicates)
    pairs = pair_truths(data, replicates=replicates)
    several = [pair.seeds for pair in pairs.values() if pair.runs > 1]
    y = log_errors(data, truth)
    squares = two_way(y)
    noise = [two_way(log_errors(data, scores) - y) for scores in redrawn]
    best = int(truth.argmax())
    lead = np.delete(lead_noise(truth, redrawn), best)
    return Truth(
        best=str(data.grid.candidates[best]),
        best_score=float(truth.max()),
        median_score=float(np.median(truth)),
        worst_score=float(truth.min()),
        pairs=pairs,
        document_noise=float(np.mean([pair.documents for pair in pairs.values()])),
        seed_noise=float(np.sqrt(np.mean(np.square(several)))),
        truth_noise=float(np.sqrt(np.mean([pair.noise**2 for pair in pairs.values()]))),
        agreement=agreement(data),
        difference_noise=float(lead.mean()),
        within_noise=int(near_best(truth, redrawn).sum()),
        raw=shares(squares),
        corrected=shares(without_noise(squares, noise)),
        **_curves(data, max_ratio),
        tau=tuple(weighted_tau(scores, same_run.tolist()) for scores in data.scores.T.tolist()),
        spearman=tuple(
            float(stats.spearmanr(scores, same_run).statistic) for scores in data.scores.T
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
    final = np.array([data.truth[:, -1] for data in tasks])
    near = np.array(
        [
            near_best(scores, redrawn_truths(data, replicates))
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
