"""One process over the scores of several tasks of a study.

An encoder that is better than others on one task is likely to be better on another. So the effects
of encoders, and those of LLMs, are correlated between tasks (the intrinsic model of
coregionalisation, Bonilla, Chai and Williams 2007), and a score on one task is evidence on all.
Common curves, interactions and noise are each task's own. Hyperparameters are those of each task's
own model, but for the correlation lengths: the geometric mean over the tasks, so that the
covariance is positive definite.

Symbols, beside those of `effects` and `fitting`:
    t, t'     tasks of two scores
    f         s exp(g ln 2 x) b_q with the hyperparameters of a score's task
    U, V, W   f f' exp(-|x - x'| / d) times A, B, and A * B
    c_u, c_v  correlation of an encoder's, and of an LLM's, effects on two tasks, between 0 and 1
    K         U + V + W and the common curve where t = t', c_u U + c_v V elsewhere
    e         ln(c / (1 - c)), normal
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from mordal_optuna.search.joint import effects
from mordal_optuna.search.joint.effects import LN2, Hyperparameters, Places
from mordal_optuna.search.joint.fitting import JITTER
from mordal_optuna.search.joint.posterior import Posterior

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.joint.effects import Floats, Indices
    from mordal_optuna.search.joint.posterior import JointModel, PoolModel

# Prior of e: c between .09 and .83 with 95 % probability, .4 in the middle.
_MIDDLE, _SPREAD = float(np.log(0.4 / 0.6)), 1.0
# Prior standard deviations within which e is searched, and steps of the search.
_WIDEST, _STEPS = 5.0, 15
# Scores that c_u and c_v are fitted to: at most so many, at equal distances in their order.
_FITTED = 600
# Pools and numbers of scores up to which tasks share one process. Inference takes the cube of the
# number of scores of all tasks; with so many, a task's own scores say nearly everything.
MOST_PAIRS, MOST_SCORES = 4096, 2000


def sharing(models: Mapping[str, JointModel]) -> Mapping[str, PoolModel]:
    """The models of several tasks that learn from each other's scores.

    A single task keeps its model. So does every task if the pool has more than 4,096 pairs, or if
    there are more than 2,000 scores.

    Args:
        models: model of each task by its name, all of the same pool, at least one.
    """
    pairs = max(len(model.candidates) for model in models.values())
    scores = sum(model.scored for model in models.values())
    if len(models) == 1 or pairs > MOST_PAIRS or not 0 < scores <= MOST_SCORES:
        return models
    shared = MultitaskModel(tuple(models.values()))
    return {name: TaskModel(shared, number) for number, name in enumerate(models)}


@dataclass(frozen=True)
class _Rows:
    """Places of several tasks: `task` has the index of each one's task."""

    places: Places
    task: Indices

    def part(self, rows: Indices) -> _Rows:
        return _Rows(self.places.part(rows), self.task[rows])


class _Covariances:
    """The terms of K, from the hyperparameters of all tasks."""

    def __init__(self, models: Sequence[JointModel]) -> None:
        values = [model.values for model in models]
        self._correlations = models[0].correlations
        self._spreads = np.array([v.spreads for v in values]).T
        self._lengths = np.exp(np.log([v.lengths for v in values]).mean(axis=0))
        self._growths = np.array([v.growth for v in values])
        self._gains = np.array([v.gains for v in values])
        self._walks = np.array([v.walk for v in values])
        self._shares = np.array([v.shared for v in values])
        self._noises = np.array([v.noises for v in values])
        self._ones = Hyperparameters.of(np.zeros(12))

    def effects(self, rows: _Rows, columns: _Rows) -> tuple[Floats, Floats, Floats]:
        """U, V and W, each rows x columns, as if all effects were common to the tasks."""
        apart = np.abs(rows.places.x[:, None] - columns.places.x[None])
        growth = self._growth(rows)[:, None] * self._growth(columns)[None]
        shapes = self._correlations.between(rows.places, columns.places)
        u, v, w = (
            s[rows.task][:, None] * s[columns.task][None] * shape * np.exp(-apart / d) * growth
            for s, d, shape in zip(self._spreads, self._lengths, shapes, strict=True)
        )
        return u, v, w

    def _growth(self, rows: _Rows) -> Floats:
        """The part of f beside s."""
        gains = self._gains[rows.task, rows.places.kind]
        return np.asarray(np.exp(self._growths[rows.task] * LN2 * rows.places.x) * gains)

    def own(self, rows: _Rows, columns: _Rows, w: Floats) -> Floats:
        """What only scores of the same task share: the common curve and W."""
        line, walk = effects.common_covariances(self._ones, rows.places, columns.places)
        return np.asarray(
            _same(rows, columns) * (line + self._walks[rows.task, None] ** 2 * walk + w)
        )

    def noise(self, rows: _Rows, documents: Floats) -> Floats:
        """Variance of the noise of each row, from V of its documents."""
        of_runs = self._noises[rows.task, rows.places.kind] ** 2
        return np.asarray(self._shares[rows.task] * documents + of_runs + JITTER)


class MultitaskModel:
    """The process of all tasks, given the scores of all.

    Attributes:
        models: the tasks' own models.
        correlation: c_u and c_v, the most probable ones.
    """

    def __init__(
        self, models: Sequence[JointModel], *, correlation: tuple[float, float] | None = None
    ) -> None:
        """Condition the process.

        Args:
            models: models of the tasks, all of the same pool, with at least one score together.
            correlation: c_u and c_v, from 0 to below 1; None takes the most probable ones.
        """
        self.models = tuple(models)
        self._terms = _Covariances(models)
        counts = [len(model.scores.places) for model in models]
        self._rows = _Rows(
            Places.joined([model.scores.places for model in models]),
            np.repeat(np.arange(len(counts)), counts),
        )
        self._y = np.concatenate([model.scores.values for model in models])
        self._y = self._y - effects.common_mean(self._rows.places)
        documents = np.concatenate([model.scores.documents for model in models])
        self._noise = self._terms.noise(self._rows, documents)
        self.correlation = correlation or self._most_probable()
        k = self._covariance(self._rows, self._rows)
        self._factor = cholesky(k + np.diag(self._noise), lower=True, overwrite_a=True)
        self._weights = cho_solve((self._factor, True), self._y)

    def _covariance(self, rows: _Rows, columns: _Rows) -> Floats:
        """K, rows x columns."""
        u, v, w = self._terms.effects(rows, columns)
        same = _same(rows, columns)
        between, beside = self.correlation
        mixed = np.where(same, 1.0, between) * u + np.where(same, 1.0, beside) * v
        return np.asarray(mixed + self._terms.own(rows, columns, w))

    def _most_probable(self) -> tuple[float, float]:
        """c_u and c_v with the highest posterior density, by L-BFGS."""
        # Imported here, since commands that fit nothing need not load it.
        from scipy.optimize import minimize

        count = len(self._y)
        rows = np.unique(np.linspace(0, count - 1, min(count, _FITTED)).round().astype(np.int64))
        density = _Density(self._terms, self._rows.part(rows), self._y[rows], self._noise[rows])
        reach = _WIDEST * _SPREAD
        found = minimize(
            density,
            np.full(2, _MIDDLE),
            jac=True,
            method="L-BFGS-B",
            bounds=[(_MIDDLE - reach, _MIDDLE + reach)] * 2,
            options={"maxiter": _STEPS},
        )
        encoders, llms = _logistic(found.x).tolist()
        return encoders, llms

    def at(self, task: int, places: Places) -> tuple[Floats, Floats]:
        """Mean and covariance of y at some places of a task."""
        rows = _Rows(places, np.full(len(places), task))
        mean, solved = self._solved(rows)
        result = self._covariance(rows, rows) - solved.T @ solved
        return mean, (result + result.T) / 2

    def moments(self, task: int, places: Places) -> tuple[Floats, Floats]:
        """Mean and variance of y at each place of a task."""
        rows = _Rows(places, np.full(len(places), task))
        mean, solved = self._solved(rows)
        prior = effects.variance(self.models[task].values, places)
        return mean, np.maximum(prior - np.einsum("ij,ij->j", solved, solved), 1e-12)

    def _solved(self, rows: _Rows) -> tuple[Floats, Floats]:
        """The mean of y, and L^-1 times the covariance with the scores."""
        cross = self._covariance(self._rows, rows)
        mean = effects.common_mean(rows.places) + cross.T @ self._weights
        return mean, solve_triangular(self._factor, cross, lower=True, check_finite=False)


class TaskModel:
    """One task of a process over several; it is used like the task's own model.

    Attributes:
        candidates: all pairs of the pool.
        values: hyperparameters of the task.
        scored: number of the task's own scores, likelihoods included.
    """

    def __init__(self, shared: MultitaskModel, task: int) -> None:
        """Create a view of a task.

        Args:
            shared: the process.
            task: index of the task in `shared.models`.
        """
        self._shared = shared
        self._task = task
        self._own = shared.models[task]
        self.candidates = self._own.candidates
        self.values = self._own.values
        self.scored = self._own.scored

    def at(self, candidates: Sequence[Candidate], samples: Sequence[int]) -> tuple[Floats, Floats]:
        """Posterior mean and covariance of ln error, see `JointModel.at`."""
        return self._shared.at(self._task, self._own.places(candidates, samples))

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        return self._shared.moments(self._task, self._own.whole)

    @property
    def means(self) -> Floats:
        """Posterior mean of ln error at r = 1, one entry per pair of the pool."""
        return self._moments[0]

    @cached_property
    def posterior(self) -> Posterior:
        """The posterior of the whole pool at r = 1, inflated like that of the task's own model."""
        inflation, whole = self._own.inflation, self._own.whole

        def joint(rows: Indices) -> tuple[Floats, Floats]:
            mean, covariance = self._shared.at(self._task, whole.part(rows))
            return mean, inflation**2 * covariance

        mean, variance = self._moments
        return Posterior(
            self.candidates, mean, inflation * np.sqrt(variance), self.values.noise, joint
        )


class _Density:
    """Negative log posterior density of e_u and e_v, with its gradient; see `fitting`."""

    def __init__(self, terms: _Covariances, rows: _Rows, y: Floats, noise: Floats) -> None:
        u, v, w = terms.effects(rows, rows)
        same = _same(rows, rows)
        self._fixed = np.where(same, u + v, 0.0) + terms.own(rows, rows, w) + np.diag(noise)
        self._crosses = (np.where(same, 0.0, u), np.where(same, 0.0, v))
        self._y = y

    def __call__(self, logits: Floats) -> tuple[float, Floats]:
        c = _logistic(logits)
        covariance = self._fixed + c[0] * self._crosses[0] + c[1] * self._crosses[1]
        factor = cho_factor(covariance, lower=True)
        a = cho_solve(factor, self._y)
        q = cho_solve(factor, np.eye(len(a))) - np.outer(a, a)
        z = (logits - _MIDDLE) / _SPREAD
        density = (self._y @ a + z @ z) / 2 + float(np.log(factor[0].diagonal()).sum())
        slopes = np.array([(q * cross).sum() / 2 for cross in self._crosses])
        return density, slopes * c * (1 - c) + z / _SPREAD


def _same(rows: _Rows, columns: _Rows) -> np.ndarray:
    """Whether two rows are of the same task, rows x columns."""
    return np.asarray(rows.task[:, None] == columns.task[None])


def _logistic(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))
