"""Bootstrap replicates of a grid: redrawn documents and redrawn seeds.

Symbols:
    G          number of clusters of documents; w_g is how often cluster g was drawn, n_g its size
    S_g        sum of a run's values over cluster g at a rung
    m          score of a run on a replicate's documents, sum w_g S_g / sum w_g n_g
    S_p        number of runs of pair p, which differ only in the random seed; 1 or more
    T_p        truth of pair p: the mean over its S_p runs, at a rung, on the same documents
    z          asin(sqrt(score)): on this scale a share's noise does not depend on its level
    d_ps       residual curve of run s of pair p on all documents: z less its mean over the S_p
               runs, at every rung, multiplied by sqrt(S_p / (S_p - 1))

A replicate repeats the experiment. Its documents are G clusters drawn with replacement, the same
draw for all pairs, runs and rungs, since compared candidates answer the same documents. What a
search sees of a pair is one run: z(T_p) on these documents plus a residual curve d. A pair with
several runs gets the curve of one of its own runs. A pair with a single run gets a curve drawn
from all runs of the pairs that have several. The whole curve is drawn at once, since the rungs of
one run are correlated, and the draw is the same on all tasks, since one run serves all tasks.

What is compared with what. The truth of a replicate is T_p at r = 1 on the replicate's documents.
A search sees one run, so the seed noise of what it sees is no part of what it is judged by: a run
that deserves its lead to its seed misleads the search, and counts against it. A run s is one of
the S_p runs in T_p, and z_s less the mean over the runs has only (S_p - 1) / S_p of the variance
of one run; the factor in d restores that variance, as the factor of a sample variance does. (Run s
against the mean of the others alone would have S_p / (S_p - 1) of it, which counts the noise of
the truth as the search's.) The truth keeps its own noise, of documents and of S_p seeds, which
`truth` computes for every pair. `tau_same_run` compares with the same run at r = 1 instead, whose
seed noise was seen by the search: the truth of tables before the further seeds existed.

Regret is measured in T_p on all documents: the maximum of 49 noisy scores is larger than the mean
score of its pair, so that against the replicate's truth even the best pair would seem to lose
points. All methods, rivals and ceilings are treated alike: the same draws, the same truth.

The residuals come from all documents, so that the documents' noise is not added twice. Standard
errors and values of documents are those of the run that was drawn; of the pair's own run, if the
residual is another pair's. Likelihoods are redrawn together with the scores: the same documents
and the same runs' residuals, of ln(-ln p) instead of z, and of asin(sqrt) of the mean p. Of the
further runs the files have the means alone, so documents are redrawn in the grid's own run, which
is then moved to the mean over the pair's runs.

Even so a replicate is noisier than the experiment that it repeats: the curves T_p and the truth
keep the noise of the S_p runs and of the documents, to which the replicate adds one run's. So tau
over replicates is too low, regret too high and intervals too wide, the less so the more runs there
are; `tests/benchmarks/minigrid/tables/test_experiments.py` compares them with experiments whose
truth is known. A search on the grid's own run (full data) errs in the other direction where its
run is a large part of the truth.

The mean over replicates is the figure, and the middle 95 % of the replicates its interval, for
every figure that is compared with the truth. Costs do not depend on it: their intervals are
centred on the value of the search on the grid's own run (`centred_interval`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.data import mean_of_runs
from mordal_optuna.errors import GridError
from mordal_optuna.replay.grid import Grid, GridCurve
from mordal_optuna.search.answers import Answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate

_TAILS = (2.5, 97.5)


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        value: figure on the full data, of a search on the grid's own run; None where there is no
            such figure.
        mean: mean over replicates.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float | None
    mean: float
    low: float
    high: float


def percentile_interval(value: float | None, replicates: ArrayLike) -> Interval:
    """Interval of the middle 95 % of the replicates."""
    values = np.asarray(replicates, dtype=float)
    low, high = np.percentile(values, _TAILS)
    shown = None if value is None else float(value)
    return Interval(shown, float(values.mean()), float(low), float(high))


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
    move = value - float(np.median(np.asarray(replicates, dtype=float)))
    return Interval(
        plain.value,
        plain.mean,
        float(np.clip(plain.low + move, least, most)),
        float(np.clip(plain.high + move, least, most)),
    )


def widened_residuals(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Residuals from the mean over each pair's S_p runs, multiplied by sqrt(S_p / (S_p - 1)).

    Args:
        rows: one row for each run.
        pairs: index of each run's pair.

    Returns:
        One row for each run; 0 for the only run of a pair.
    """
    counts = np.bincount(pairs)[pairs]
    factors = np.sqrt(counts / np.maximum(counts - 1, 1))
    residuals = rows - mean_of_runs(rows, pairs)[pairs]
    return residuals * factors.reshape(-1, *(1,) * (rows.ndim - 1))


def on_z(scores: np.ndarray) -> np.ndarray:
    """Scores in 0..1 on the scale of z."""
    return np.arcsin(np.sqrt(np.clip(scores, 0, 1)))


def add_on_z(scores: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Add residuals to scores on the scale of z; the results stay in 0..1."""
    return np.sin(np.clip(on_z(scores) + residuals, 0, np.pi / 2)) ** 2


@dataclass(frozen=True)
class Replicate:
    """What a search sees, and what it is judged by.

    Attributes:
        grid: scores of one run of every pair.
        truth: T_p at r = 1 of each pair on the same documents, 0..1.
    """

    grid: Grid
    truth: Mapping[Candidate, float]

    def truths(self) -> list[float]:
        """The truth in the order of the grid's candidates."""
        return [self.truth[candidate] for candidate in self.grid.candidates]


def full_data(data: TaskData) -> Replicate:
    """The grid's own runs and the truth, both on all documents."""
    return Replicate(data.grid, _by_candidate(data.grid, data.truth))


def _by_candidate(grid: Grid, truth: np.ndarray) -> dict[Candidate, float]:
    return dict(zip(grid.candidates, truth[:, -1].tolist(), strict=True))


class Resampler:
    """Draws replicates of one task; the same number always gives the same replicate.

    Where `run` is an argument, 0 is the run that searches see, and other numbers are further runs
    of the whole grid on the same documents, drawn independently of it.
    """

    def __init__(self, data: TaskData) -> None:
        """Prepare the resampling of a task.

        Raises:
            GridError: if no pair has several runs, so that the noise of seeds is not known.
        """
        self._grid = data.grid
        self._task = zlib.crc32(data.task.encode())
        shown = np.eye(int(data.clusters.max()) + 1)[data.clusters]  # documents x G
        self._sums = data.run_values @ shown  # runs x rungs x G
        self._sizes = shown.sum(axis=0)
        self._pairs = data.run_pairs
        self._drawable = drawable_runs(self._pairs)
        self._residuals = widened_residuals(on_z(data.run_scores), self._pairs)
        self._nll_sums = self._nll_centre = self._nll_residuals = None
        if data.nlls is not None and data.further_nlls is not None:
            own = data.nlls.mean(axis=2)
            logs = np.log(np.concatenate((own, data.further_nlls)))
            self._nll_sums = data.nlls @ shown
            self._nll_centre = mean_of_runs(logs, self._pairs) - np.log(own)
            self._nll_residuals = widened_residuals(logs, self._pairs)
        self._p_sums = self._p_moves = None
        if data.nlls is not None and data.further_p_correct is not None:
            p = np.exp(-data.nlls)
            own = on_z(p.mean(axis=2))
            runs = np.concatenate((own, on_z(data.further_p_correct)))
            centre = mean_of_runs(runs, self._pairs) - own
            self._p_sums = p @ shown
            self._p_moves = centre, widened_residuals(runs, self._pairs)

    def truth(self, number: int, documents: int | None = None) -> np.ndarray:
        """Mean scores of each pair's runs on redrawn documents, pairs x rungs.

        Args:
            number: number of the replicate.
            documents: smallest number of documents of a subset, see `grid`; None for all.
        """
        return mean_of_runs(self._scored(number, documents)[0], self._pairs)

    def truth_redrawn(self, number: int) -> np.ndarray:
        """The truth with redrawn documents and seeds, pairs x rungs.

        A pair gets as many residual curves as it has runs; their mean is added.
        """
        counts = np.bincount(self._pairs)
        moves = np.zeros((len(counts), self._residuals.shape[1]))
        for run in range(int(counts.max())):
            moves += self.seeds_redrawn(number, run) * (run < counts)[:, None]
        return add_on_z(self.truth(number), moves / counts[:, None])

    def seeds_redrawn(self, number: int, run: int = 0) -> np.ndarray:
        """Residuals of redrawn seeds on the scale of z, pairs x rungs."""
        return self._residuals[self.runs(number, run)]

    def scores(
        self, number: int, run: int = 0, documents: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and standard errors of one run of every pair, pairs x rungs."""
        stderr = self._scored(number, documents)[1][self._shown(number, run)]
        truth = self.truth(number, documents)
        return add_on_z(truth, self.seeds_redrawn(number, run)), stderr

    def nlls(
        self, number: int, documents: int | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean -ln p and standard errors, redrawn like the scores; None without likelihoods."""
        if self._nll_sums is None or self._nll_residuals is None or self._nll_centre is None:
            return None
        drawn = self._documents(number, documents)
        nll, stderr = weighted_scores(self._nll_sums, self._sizes, drawn)
        factor = np.exp(self._nll_centre + self._nll_residuals[self.runs(number)])
        return nll * factor, stderr * factor

    def p_correct(
        self, number: int, documents: int | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Mean p and standard errors, redrawn like the scores; None without the runs' means."""
        if self._p_sums is None or self._p_moves is None:
            return None
        drawn = self._documents(number, documents)
        p, stderr = weighted_scores(self._p_sums, self._sizes, drawn)
        centre, residuals = self._p_moves
        return add_on_z(p, centre + residuals[self.runs(number)]), stderr

    def grid(self, number: int, documents: int | None = None) -> Grid:
        """A replicate as a grid, with the similarities and costs of the file.

        Args:
            number: number of the replicate.
            documents: score all rungs on a random subset of the replicate's documents: on whole
                clusters, until they have so many documents. Smaller subsets lie inside larger
                ones. None scores all documents.
        """
        scores, stderr = self.scores(number, documents=documents)
        likelihoods = self.nlls(number, documents), self.p_correct(number, documents)
        return with_scores(self._grid, scores, stderr, *likelihoods)

    def replicate(self, number: int) -> Replicate:
        """A replicate as a grid, with its truth."""
        return Replicate(self.grid(number), _by_candidate(self._grid, self.truth(number)))

    def answers(self, number: int, candidate: Candidate, samples: int) -> Answers:
        """Values of a pair at a rung on a replicate's documents, by drawn cluster."""
        row = self._shown(number)[self._grid.candidates.index(candidate)]
        rung = self._grid.curves[0].samples.index(samples)
        drawn = np.repeat(np.arange(len(self._sizes)), self._documents(number))
        return Answers(
            f"{self._task}-{number}",
            self._sums[row, rung, drawn].astype(np.float32),
            self._sizes[drawn].astype(np.uint32),
        )

    def runs(self, number: int, run: int = 0) -> np.ndarray:
        """Index of the run whose residual curve each pair gets."""
        rng = np.random.default_rng([number, 0, run] if run else [number, 0])
        at = rng.random(len(self._drawable))
        return np.array(
            [own[int(u * len(own))] for u, own in zip(at, self._drawable, strict=True)]
        )

    def _shown(self, number: int, run: int = 0) -> np.ndarray:
        """Index of the run whose documents each pair shows: one of its own."""
        own, drawn = np.arange(len(self._drawable)), self.runs(number, run)
        return np.where(self._pairs[drawn] == own, drawn, own)

    def _scored(self, number: int, documents: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and standard errors of all runs on redrawn documents, runs x rungs."""
        return weighted_scores(self._sums, self._sizes, self._documents(number, documents))

    def _documents(self, number: int, least: int | None = None) -> np.ndarray:
        """Number of times each cluster of documents is drawn, for at least so many documents."""
        count = len(self._sizes)
        rng = np.random.default_rng([number, 1, self._task])
        drawn = rng.integers(0, count, count)
        if least is not None:  # draws are independent: the first ones are a random subset
            drawn = drawn[: np.searchsorted(np.cumsum(self._sizes[drawn]), least) + 1]
        return np.bincount(drawn, minlength=count)


def drawable_runs(pairs: np.ndarray) -> list[np.ndarray]:
    """Indices of the runs whose residual curves each pair may get.

    Args:
        pairs: index of each run's pair.

    Returns:
        The pair's own runs if it has several; otherwise all runs of the pairs that have several.

    Raises:
        GridError: if no pair has several runs.
    """
    counts = np.bincount(pairs)
    pooled = np.flatnonzero(counts[pairs] > 1)
    if not len(pooled):
        raise GridError(
            "no pair has runs with further seeds; the noise of seeds needs one with two or more"
        )
    return [
        np.flatnonzero(pairs == pair) if count > 1 else pooled for pair, count in enumerate(counts)
    ]


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
    p_correct: tuple[np.ndarray, np.ndarray] | None = None,
) -> Grid:
    """A grid with other scores and likelihoods.

    Args:
        grid: the grid.
        scores: pairs x rungs, in the order of the grid's candidates.
        stderr: standard errors of the scores, pairs x rungs.
        nlls: mean -ln p and standard errors, each pairs x rungs; None removes them.
        p_correct: mean p and standard errors, each pairs x rungs; None removes them.
    """
    columns: dict[str, np.ndarray | None] = {"score": scores, "stderr": stderr}
    for name, found in (("nll", nlls), ("p_correct", p_correct)):
        columns |= {name: found[0] if found else None}
        columns |= {f"{name}_stderr": found[1] if found else None}
    by_pair = {curve.candidate: curve for curve in grid.curves}
    curves = []
    for row, candidate in enumerate(grid.candidates):
        update = {
            key: None if values is None else tuple(values[row].tolist())
            for key, values in columns.items()
        }
        curves.append(by_pair[candidate].model_copy(update=update))
    return _rebuilt(grid, tuple(curves))


def _rebuilt(grid: Grid, curves: tuple[GridCurve, ...]) -> Grid:
    # A model copy would keep values that the old grid has cached from its curves.
    fields = {name: getattr(grid, name) for name in Grid.model_fields}
    return Grid.model_validate({**fields, "curves": curves})
