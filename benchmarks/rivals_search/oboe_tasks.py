"""OBOE (Yang et al. 2019, arXiv 1808.03233) with other tasks as its meta-training data.

The errors of all pairs at two ratios on the other tasks are factorised. On the new task every
column has known features, and only the task's own few coefficients are unknown: they are estimated
by ridge regression from the experiments, which are chosen greedily by D-optimal design, by their
gain per second. The rank is the one that predicts tasks left out best. As OBOE takes the measured
error of a model that it has run, what a measured score deviates from its prediction is carried
over to r = 1, by a factor that tasks left out have shown. Half of the budget is left for the best
predicted pairs, as OBOE divides its time.

The whole grids of the other tasks are given for nothing: a user has them only after having trained
every pair for these tasks. No other rival, and none of our methods, has them.

Symbols:
    t          task of the meta-training data
    R, D       samples of the experiments, and of a full alignment
    y_tc       ln error of task t in column c: a pair at R, or a pair at D
    k          rank
    o_c        mean fall of y from R to D over all tasks and pairs for columns at D, else 0
    v_c        features of a column, 1 + k: one, and the first k right singular vectors of
               y_tc - o_c less the mean of each task, scaled so that coefficients are about 1
    a          coefficients of the new task: y_c = o_c + a' v_c + e_c
    S          prior covariance of a around its mean over the tasks
    e_c        what rank k leaves; e at D is about h times e at R for the same pair
    s^2        variance of e at R, for tasks left out
    M          information about a: S^-1 + sum v v' / s^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rivals_search.designed import DesignedPlan
from mordal_optuna.errors import SearchError
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.joint.posterior import Posterior, independent_posterior
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What other tasks say about the columns.

    Attributes:
        v: v_c, columns x (1 + k); the pairs at R, then the same pairs at D.
        offset: o_c of every column.
        mean: mean of a over the tasks.
        covariance: S.
    """

    v: Floats
    offset: Floats
    mean: Floats
    covariance: Floats

    @property
    def rank(self) -> int:
        """The rank k."""
        return self.v.shape[1] - 1

    def predicted(self, a: Floats) -> Floats:
        """Predicted ln error of every column."""
        return np.asarray(self.offset + self.v @ a)

    def coefficients(
        self, columns: NDArray[np.int64], y: Floats, variance: float
    ) -> tuple[Floats, Floats]:
        """Posterior mean of a, and M.

        Args:
            columns: columns of the experiments.
            y: their ln errors.
            variance: s^2.
        """
        prior = np.linalg.inv(self.covariance)
        v = self.v[columns]
        matrix = prior + v.T @ v / variance
        right = prior @ self.mean + v.T @ (y - self.offset[columns]) / variance
        return np.asarray(np.linalg.solve(matrix, right)), matrix


def factorise(y: Floats, rank: int) -> Features:
    """The features of all columns.

    Args:
        y: y_tc, tasks x columns, the pairs at R and then the same pairs at D; at least two tasks.
        rank: k, at least 1 and at most the number of tasks.
    """
    pairs = y.shape[1] // 2
    offset = np.repeat((0.0, float((y[:, pairs:] - y[:, :pairs]).mean())), pairs)
    y = y - offset
    centred = y - y.mean(axis=1, keepdims=True)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    scale = np.sqrt((left[:, :rank] ** 2).mean(axis=0)) * values[:rank]
    v = np.concatenate((np.ones((y.shape[1], 1)), right[:rank].T * scale), axis=1)
    a = np.linalg.lstsq(v, y.T, rcond=None)[0]
    # A few tasks say little about S: a coefficient may be as far from the mean as from 0.
    spread = (a**2).mean(axis=1)
    return Features(v, offset, a.mean(axis=1), np.diag(spread))


@dataclass(frozen=True)
class Learned:
    """Features and what tasks left out have shown.

    Attributes:
        features: the features of all columns.
        variance: s^2.
        carried: h, between 0 and 1.
        rest: variance of e at D that e at R does not explain.
    """

    features: Features
    variance: float
    carried: float
    rest: float


def learn(y: Floats) -> Learned:
    """Choose the rank and factorise.

    Args:
        y: y_tc, tasks x columns, the pairs at R and then the same pairs at D; at least three
            tasks.
    """
    pairs = y.shape[1] // 2
    losses: dict[int, float] = {}
    left_out: dict[int, Floats] = {}
    for rank in range(1, len(y) - 1):
        rows = []
        for task in range(len(y)):
            features = factorise(np.delete(y, task, axis=0), rank)
            a, _ = features.coefficients(np.arange(pairs), y[task, :pairs], _VARIANCE)
            rows.append(y[task] - features.predicted(a))
        # Levels rank nothing, and tasks of a wide spread should not decide alone.
        spread = y[:, pairs:].var(axis=1)
        losses[rank] = float((np.var(rows, axis=1, where=_at_full(y)) / spread).mean())
        left_out[rank] = np.array(rows)
    best = min(losses, key=lambda rank: losses[rank])
    low, high = left_out[best][:, :pairs], left_out[best][:, pairs:]
    high = high - high.mean(axis=1, keepdims=True)
    carried = float(np.clip((low * high).sum() / (low**2).sum(), 0, 1))
    rest = float(((high - carried * low) ** 2).mean())
    return Learned(factorise(y, best), float((low**2).mean()), carried, rest)


# s^2 while the rank is chosen, before tasks left out have shown it.
_VARIANCE = 0.1**2


def _at_full(y: Floats) -> NDArray[np.bool_]:
    mask = np.zeros(y.shape, dtype=bool)
    mask[:, y.shape[1] // 2 :] = True
    return mask


class TasksRanker(Ranker):
    """Ranks the pool by the prediction from other tasks."""

    def __init__(
        self, tree: ClusterTree, samples: int, full_samples: int, others: Sequence[Grid]
    ) -> None:
        """Factorise the grids of other tasks.

        Args:
            tree: the pool.
            samples: R.
            full_samples: D.
            others: grids of at least three other tasks, of the same pool and rungs.

        Raises:
            SearchError: if there are fewer than three other tasks.
            GridError: if a grid lacks one of the rungs.
        """
        if len(others) < 3:
            raise SearchError(f"others: got {len(others)} tasks; allowed are 3 or more")
        super().__init__(tree, full_samples)
        self._samples = samples
        self._row = {candidate: n for n, candidate in enumerate(tree.candidates)}
        self.learned = learn(
            np.array(
                [
                    [
                        g.measurement(c, n).log_error
                        for n in (samples, full_samples)
                        for c in self._row
                    ]
                    for g in others
                ]
            )
        )

    def _known(self, history: History, samples: int) -> tuple[NDArray[np.int64], Floats]:
        """Rows of the pairs scored at a rung, and their ln errors."""
        scored = [(self._row[c], m) for c, r in history.candidates.items() if (m := r.at(samples))]
        rows = np.array([row for row, _ in scored], dtype=np.int64)
        return rows, np.array([m.log_error for _, m in scored])

    def state(self, history: History) -> tuple[Floats, Floats]:
        """Posterior mean of a, and M."""
        rows, y = self._known(history, self._samples)
        return self.learned.features.coefficients(rows, y, self.learned.variance)

    def posterior(self, history: History) -> Posterior:
        """Predictions at r = 1; the scores of pairs that were trained fully are their own."""
        learned, pairs = self.learned, len(self._row)
        a, matrix = self.state(history)
        v, predicted = learned.features.v[pairs:], learned.features.predicted(a)
        mean = predicted[pairs:]
        spread = np.einsum("cf,fh,ch->c", v, np.linalg.inv(matrix), v) + learned.rest
        rows, y = self._known(history, self._samples)
        mean[rows] += learned.carried * (y - predicted[rows])
        unseen = np.setdiff1d(np.arange(pairs), rows)
        spread[unseen] += learned.carried**2 * learned.variance
        rows, y = self._known(history, self._full)
        mean[rows] = y
        return independent_posterior(
            self._tree.candidates, mean.tolist(), np.sqrt(spread).tolist()
        )


class OboeTasksPlan(DesignedPlan):
    """Designed experiments at one ratio, then the best predicted pairs fully."""

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        others: Sequence[Grid],
        *,
        ratio: float,
        finish: bool = True,
        seed: int = 0,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is D.
            others: grids of at least three other tasks, of the same pool and rungs.
            ratio: R as a share of D.
            finish: whether the best predicted pairs are trained fully with half of the budget.
            seed: random seed of the order in which experiments of equal worth are taken.
            budget: limit of device time; None for no limit.

        Raises:
            SearchError: if the rungs do not ascend, none below D is at the ratio, or there are
                fewer than three other tasks.
        """
        self._samples = round(ratio * rungs[-1])
        if self._samples not in rungs[:-1]:
            raise SearchError(
                f"ratio: got {ratio}; it must be that of a rung below a full alignment, of "
                f"{list(rungs)} samples"
            )
        self._model = TasksRanker(tree, self._samples, rungs[-1], others)
        super().__init__(
            tree,
            rungs,
            self._model,
            finish=finish,
            reserved=0.5 if finish else 0.0,
            seed=seed,
            budget=budget,
        )

    def design(self, history: History, seconds: float) -> Job | None:
        """The experiment that adds most to ln det M per second."""
        v = self._model.learned.features.v[: len(self.candidates)]
        covariance = np.linalg.inv(self._model.state(history)[1])
        spread = np.einsum("cf,fh,ch->c", v, covariance, v)
        gain = np.log1p(spread / self._model.learned.variance)
        jobs = [
            (Job(self.candidates[n], self._samples, "design"), float(gain[n]))
            for n in self._order
            if self.is_free(history, self.candidates[n], self._samples)
        ]
        return self.best_value(history, jobs, seconds)
