"""Bootstrap replicates of a grid: other documents, other seeds.

Symbols:
    G          clusters of documents; w_g how often cluster g was drawn, n_g its documents
    S_g        sum of a pair's values over cluster g at a rung
    m          score of a replicate, sum w_g S_g / sum w_g n_g
    z          asin(sqrt(score)): on this scale a share's noise does not depend on its level
    d_psr      z of pair p with seed s at rung r, less its mean over the seeds

A replicate is the experiment done again. Its documents are G clusters drawn with replacement, the
same draw for all pairs and rungs, since compared candidates answer the same documents. Then every
pair gets the noise of another seed: one of the centred residual curves d_ps of this task, drawn
with replacement from all pairs and seeds, times sqrt(S / (S - 1)) for the degree of freedom that
the mean of S seeds takes; the whole curve at once, since the rungs of one run go up and down
together; the draw is the same on all tasks, since the run is. The residuals come from the full
documents, so the documents' own noise is not added a second time. Likelihoods are redrawn along
with the scores: the same documents, the same run's residuals, of ln(-ln p) in place of z.

A replicate's truth is its own scores at r = 1: a search that is run again is judged, as in the
tables, against a grid that was run with the same documents and seeds. Its best pair differs from
replicate to replicate where the best are close, and that is what "true best rejected" counts.
Points lost by the pick, however, are counted in the scores of the full data: the maximum of 49
noisy scores lies above the score that its pair has on average, so that against the replicate's own
truth even the best pair would seem to lose points.

The replicates' noise comes on top of the noise that the data have already. So the spread of a rank
correlation or a cost over replicates is right, but its centre is off (tau too low):
`centred_interval` moves it to the value on the full data. Regret is judged against a fixed truth,
which takes the place of the population, so its mean and percentiles over replicates are an
estimate of their own of what a search loses on other documents and seeds, beside what this one
lost. It tends to err upwards: the best of noisy scores owes some of its lead to noise. Even the
full grid loses points there: that is the noise that no method can get below.
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
    """A figure and what it may be.

    Attributes:
        value: on the full data.
        mean: over replicates.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    value: float
    mean: float
    low: float
    high: float


def percentile_interval(value: float, replicates: ArrayLike) -> Interval:
    """The middle 95 % of the replicates."""
    found = np.asarray(replicates, dtype=float)
    low, high = np.percentile(found, _TAILS)
    return Interval(float(value), float(found.mean()), float(low), float(high))


def centred_interval(
    value: float, replicates: ArrayLike, *, least: float, most: float
) -> Interval:
    """The middle 95 % of the replicates, moved so that their median is the value.

    Args:
        value: on the full data.
        replicates: the figure on each replicate.
        least: the interval ends there at the latest.
        most: the same, above.
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
    """Centred residual curves of runs that differ in the seed alone.

    Args:
        scores: pairs x seeds x rungs, 0..1; at least two seeds.

    Returns:
        (pairs * seeds) x rungs, on the scale of z, widened by sqrt(S / (S - 1)).
    """
    return widened_residuals(np.arcsin(np.sqrt(scores)))


def widened_residuals(values: np.ndarray) -> np.ndarray:
    """(pairs * seeds) x rungs of values' distances from their mean over the S seeds, widened."""
    seeds = values.shape[1]
    residuals = (values - values.mean(axis=1, keepdims=True)) * np.sqrt(seeds / (seeds - 1))
    return residuals.reshape(-1, values.shape[2])


def add_on_z(scores: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Scores moved by residuals on the scale of z; they stay in 0..1."""
    moved = np.arcsin(np.sqrt(np.clip(scores, 0, 1))) + residuals
    return np.sin(np.clip(moved, 0, np.pi / 2)) ** 2


class Resampler:
    """Draws replicates of one task; the same number gives the same replicate."""

    def __init__(self, data: TaskData) -> None:
        """Prepare a task."""
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
        """Scores and standard errors with other documents and the same seeds, pairs x rungs."""
        return weighted_scores(self._sums, self._sizes, self._documents(number))

    def seeds_redrawn(self, number: int) -> np.ndarray:
        """Residuals of another seed on the scale of z, pairs x rungs."""
        return self._residuals[self._runs(number)]

    def scores(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and standard errors with other documents and other seeds, pairs x rungs."""
        scores, stderr = self.documents_redrawn(number)
        return add_on_z(scores, self.seeds_redrawn(number)), stderr

    def nlls(self, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean -ln p and standard errors, redrawn as the scores are; None where there are none."""
        if self._nll_sums is None or self._nll_residuals is None:
            return None
        nll, stderr = weighted_scores(self._nll_sums, self._sizes, self._documents(number))
        factor = np.exp(self._nll_residuals[self._runs(number)])
        return nll * factor, stderr * factor

    def grid(self, number: int) -> Grid:
        """A replicate as a grid; similarities and costs are those of the file."""
        scores, stderr = self.scores(number)
        return with_scores(self._grid, scores, stderr, self.nlls(number))

    def answers(self, number: int, candidate: Candidate, samples: int) -> Answers:
        """What a replicate's documents say of a pair at a rung: clusters as they were drawn."""
        row = self._grid.candidates.index(candidate)
        rung = self._grid.curves[0].samples.index(samples)
        drawn = np.repeat(np.arange(len(self._sizes)), self._documents(number))
        return Answers(
            f"{self._task}-{number}",
            self._sums[row, rung, drawn].astype(np.float32),
            self._sizes[drawn].astype(np.uint32),
        )

    def _documents(self, number: int) -> np.ndarray:
        """How often each cluster of documents is drawn."""
        count = len(self._sizes)
        rng = np.random.default_rng([number, 1, self._task])
        return np.bincount(rng.integers(0, count, count), minlength=count)

    def _runs(self, number: int) -> np.ndarray:
        """Which run's residuals each pair gets."""
        rng = np.random.default_rng([number, 0])
        return rng.integers(0, len(self._residuals), len(self._sums))


def weighted_scores(
    sums: np.ndarray, sizes: np.ndarray, drawn: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and their clustered standard errors where cluster g was drawn w_g times.

    Args:
        sums: S_g, pairs x rungs x G.
        sizes: n_g, at least two clusters.
        drawn: w_g.

    Returns:
        m, and sqrt(G / (G - 1) sum w_g (S_g - m n_g)^2) / sum w_g n_g with G = sum w_g, which is
        what scoring itself computes; pairs x rungs.
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
    """A grid with other scores and likelihoods; pairs x rungs in the order of its candidates."""
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
    # A copy would keep what the old grid has cached of its curves.
    fields = {name: getattr(grid, name) for name in Grid.model_fields}
    return Grid.model_validate({**fields, "curves": curves})
