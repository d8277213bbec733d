"""Bootstrap replicates of a grid: redrawn documents and redrawn seeds.

Symbols:
    G          number of clusters of documents; w_g is how often cluster g was drawn, n_g its size
    S_g        sum of a pair's values over cluster g at a rung
    m          score of a replicate, sum w_g S_g / sum w_g n_g
    z          asin(sqrt(score)): on this scale a share's noise does not depend on its level
    d_psr      z of pair p with seed s at rung r, less its mean over the seeds

A replicate repeats the experiment. Its documents are G clusters drawn with replacement, the same
draw for all pairs and rungs, since compared candidates answer the same documents. Every pair also
gets the noise of another seed: one of the task's centred residual curves d_ps, drawn with
replacement from all pairs and seeds and multiplied by sqrt(S / (S - 1)) for the degree of freedom
that the mean over S seeds uses. The whole curve is drawn at once, since the rungs of one run are
correlated, and the draw is the same on all tasks, since one run serves all tasks. The residuals
come from the full documents, so that the documents' noise is not added twice. Likelihoods are
redrawn together with the scores: the same documents and the same runs' residuals, of ln(-ln p)
instead of z.

The truth of a replicate is its scores at r = 1: a search on it is judged against a grid with the
same documents and seeds. Where the best pairs are close, the best pair differs between replicates,
and `true best rejected` counts by the replicate's. Regret, however, is measured in the scores of
the full data: the maximum of 49 noisy scores is larger than the mean score of its pair, so that
against the replicate's truth even the best pair would seem to lose points.

The noise of the replicates is added to the noise of the data. Therefore the spread of a rank
correlation or a cost over replicates is right, but its centre is biased (tau too low):
`centred_interval` moves it to the value on the full data. Regret is measured against a fixed
truth, which replaces the population. Its mean and percentiles over replicates therefore estimate
what a search loses on other documents and seeds, in addition to the value on the full data. The
estimate tends to be too high, since the best of noisy scores owes part of its lead to noise: even
the full grid loses points, which no method can avoid.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.replay.grid import Grid, GridCurve
from mordal_optuna.search.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate

_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        value: figure on the full data.
        mean: mean over replicates.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    mean: float
    low: float
    high: float


def percentile_interval(value: float, replicates: ArrayLike) -> Interval:
    """Interval of the middle 95 % of the replicates."""
    values = np.asarray(replicates, dtype=float)
    low, high = np.percentile(values, _TAILS)
    return Interval(float(value), float(values.mean()), float(low), float(high))


def centred_interval(
    value: float, replicates: ArrayLike, *, least: float, most: float
) -> Interval:
    """Interval of the middle 95 % of the replicates, shifted so that their median is the value.

    Args:
        value: figure on the full data.
        replicates: figure on each replicate.
        least: smallest possible value of the figure.
        most: largest possible value of the figure.
    """
    plain = percentile_interval(value, replicates)
    move = plain.value - float(np.median(np.asarray(replicates, dtype=float)))
    return Interval(
        plain.value,
        plain.mean,
        float(np.clip(plain.low + move, least, most)),
        float(np.clip(plain.high + move, least, most)),
    )


def seed_residuals(scores: np.ndarray) -> np.ndarray:
    """Centred residual curves of runs that differ only in the random seed.

    Args:
        scores: scores in 0..1, pairs x seeds x rungs; at least two seeds.

    Returns:
        Residuals of z, (pairs * seeds) x rungs, multiplied by sqrt(S / (S - 1)).
    """
    return widened_residuals(np.arcsin(np.sqrt(scores)))


def widened_residuals(values: np.ndarray) -> np.ndarray:
    """Residuals of values from their mean over the S seeds, multiplied by sqrt(S / (S - 1)).

    Args:
        values: pairs x seeds x rungs.

    Returns:
        (pairs * seeds) x rungs.
    """
    seeds = values.shape[1]
    residuals = (values - values.mean(axis=1, keepdims=True)) * np.sqrt(seeds / (seeds - 1))
    return residuals.reshape(-1, values.shape[2])


def add_on_z(scores: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Add residuals to scores on the scale of z; the results stay in 0..1."""
    moved = np.arcsin(np.sqrt(np.clip(scores, 0, 1))) + residuals
    return np.sin(np.clip(moved, 0, np.pi / 2)) ** 2


class Resampler:
    """Draws replicates of one task; the same number always gives the same replicate."""

    def __init__(self, data: TaskData) -> None:
        """Prepare the resampling of a task."""
        self._grid = data.grid
        self._task = zlib.crc32(data.task.encode())
        shown = np.eye(int(data.clusters.max()) + 1)[data.clusters]  # documents x G
        self._sums = data.values @ shown
        self._sizes = shown.sum(axis=0)
        self._residuals = seed_residuals(data.seed_scores)
        self._nll_sums = self._nll_residuals = None
        if data.nlls is not None and data.seed_nlls is not None:
            self._nll_sums = data.nlls @ shown
            self._nll_residuals = widened_residuals(np.log(data.seed_nlls))

    def documents_redrawn(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and standard errors with redrawn documents and the same seeds, pairs x rungs."""
        return weighted_scores(self._sums, self._sizes, self._documents(number))

    def seeds_redrawn(self, number: int) -> np.ndarray:
        """Residuals of redrawn seeds on the scale of z, pairs x rungs."""
        return self._residuals[self._runs(number)]

    def scores(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and standard errors with redrawn documents and seeds, pairs x rungs."""
        scores, stderr = self.documents_redrawn(number)
        return add_on_z(scores, self.seeds_redrawn(number)), stderr

    def nlls(self, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean -ln p and standard errors, redrawn like the scores; None without likelihoods."""
        if self._nll_sums is None or self._nll_residuals is None:
            return None
        nll, stderr = weighted_scores(self._nll_sums, self._sizes, self._documents(number))
        factor = np.exp(self._nll_residuals[self._runs(number)])
        return nll * factor, stderr * factor

    def grid(self, number: int) -> Grid:
        """A replicate as a grid, with the similarities and costs of the file."""
        scores, stderr = self.scores(number)
        return with_scores(self._grid, scores, stderr, self.nlls(number))

    def answers(self, number: int, candidate: Candidate, samples: int) -> Answers:
        """Values of a pair at a rung on a replicate's documents, by drawn cluster."""
        row = self._grid.candidates.index(candidate)
        rung = self._grid.curves[0].samples.index(samples)
        drawn = np.repeat(np.arange(len(self._sizes)), self._documents(number))
        return Answers(
            f"{self._task}-{number}",
            self._sums[row, rung, drawn].astype(np.float32),
            self._sizes[drawn].astype(np.uint32),
        )

    def _documents(self, number: int) -> np.ndarray:
        """Number of times each cluster of documents is drawn."""
        count = len(self._sizes)
        rng = np.random.default_rng([number, 1, self._task])
        return np.bincount(rng.integers(0, count, count), minlength=count)

    def _runs(self, number: int) -> np.ndarray:
        """Index of the residual curve that each pair gets."""
        rng = np.random.default_rng([number, 0])
        return rng.integers(0, len(self._residuals), len(self._sums))


def weighted_scores(
    sums: np.ndarray, sizes: np.ndarray, drawn: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and clustered standard errors where cluster g is drawn w_g times.

    Args:
        sums: S_g, pairs x rungs x G.
        sizes: n_g, one per cluster; at least two clusters.
        drawn: w_g, one per cluster.

    Returns:
        Scores m, and standard errors sqrt(G / (G - 1) sum w_g (S_g - m n_g)^2) / sum w_g n_g with
        G = sum w_g, the formula of scoring itself; each pairs x rungs.
    """
    weights = np.asarray(drawn, dtype=float)
    documents, count = float(weights @ sizes), float(weights.sum())
    means = sums @ weights / documents
    squares = ((sums - means[..., None] * sizes) ** 2) @ weights
    return means, np.sqrt(count / (count - 1) * squares) / documents


def with_scores(
    grid: Grid,
    scores: np.ndarray,
    stderr: np.ndarray,
    nlls: tuple[np.ndarray, np.ndarray] | None = None,
) -> Grid:
    """A grid with other scores and likelihoods.

    Args:
        grid: the grid.
        scores: pairs x rungs, in the order of the grid's candidates.
        stderr: standard errors of the scores, pairs x rungs.
        nlls: mean -ln p and standard errors, each pairs x rungs; None removes the likelihoods.
    """
    by_pair = {curve.candidate: curve for curve in grid.curves}
    curves = []
    for row, candidate in enumerate(grid.candidates):
        values: dict[str, np.ndarray | None] = {"score": scores[row], "stderr": stderr[row]}
        values |= {"nll": nlls[0][row] if nlls else None}
        values |= {"nll_stderr": nlls[1][row] if nlls else None}
        update = {key: None if v is None else tuple(v.tolist()) for key, v in values.items()}
        curves.append(by_pair[candidate].model_copy(update=update))
    return _rebuilt(grid, tuple(curves))


def _rebuilt(grid: Grid, curves: tuple[GridCurve, ...]) -> Grid:
    # A model copy would keep values that the old grid has cached from its curves.
    fields = {name: getattr(grid, name) for name in Grid.model_fields}
    return Grid.model_validate({**fields, "curves": curves})
