"""Joint estimates of all pairs from all scores of a study: a Gaussian process, see `effects`.

The score of a pair is evidence about its encoder and its LLM, and the curves of all pairs have a
common trend. So a pair with few or no scores is estimated from the pairs that share a part with
it, or have a similar one, and an exceptional score is shrunk toward the estimate from its parts.
Inference is exact; the hyperparameters are maximum a posteriori values.

Symbols:
    y      ln error of a pair at r = 1, its mean over random seeds
    D      samples of a full alignment
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.linalg import cholesky

from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import RUN_NOISE
from mordal_optuna.search.joint.effects import ERROR, LIKELIHOOD, PRIOR, Correlations, Places
from mordal_optuna.search.joint.fitting import Process, Scores, inflation, most_probable
from mordal_optuna.search.joint.similarity import correlations_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import Similarities
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.joint.effects import Floats, Hyperparameters, Hyperprior, Indices

# Draws for the probabilities of being best, and number of (the most promising) pairs drawn.
_DRAWS, _DRAWN = 4096, 512
# Number of pairs whose moments are computed at once.
_CHUNK = 4096
# Scores up to which a growing list is fitted each time.
_REFITTED = 400
# The likelihood of the reference answers is used below this x: early it orders pairs better than
# scores that are still at chance; later the score itself is better.
_LIKELIHOOD_BELOW = -2.0
# Smallest 1 - p and smallest standard error, for answers that are certain on every document.
_LEAST = 1e-4


@dataclass(frozen=True)
class Posterior:
    """Posterior of ln error at r = 1.

    Attributes:
        candidates: the pairs.
        mean: posterior mean of ln error, one entry per pair.
        deviation: posterior standard deviation of ln error, one entry per pair.
        run_noise: h, standard deviation of a run's ln error over random seeds.
        joint: returns mean and covariance of some pairs, given their indices.
    """

    candidates: tuple[Candidate, ...]
    mean: Floats
    deviation: Floats
    run_noise: float
    joint: Callable[[Indices], tuple[Floats, Floats]]

    @cached_property
    def drawn(self) -> Indices:
        """Indices of the pairs that may be the best: the 512 most promising ones."""
        return lowest(self.mean - 3 * self.deviation, _DRAWN)

    @cached_property
    def draws(self) -> Floats:
        """4,096 joint draws of ln error, draws x `drawn`; the same at every call."""
        return posterior_draws(*self.joint(self.drawn))

    @cached_property
    def best(self) -> Floats:
        """Probability of having the lowest error, one entry per pair; the sum is 1.

        In large pools only the 512 most promising pairs get a probability above 0.
        """
        return self.best_without(())

    def best_without(self, excluded: Sequence[int]) -> Floats:
        """The same among the pairs that are left without some; 0 for these.

        Args:
            excluded: indices of the pairs to leave out.
        """
        best = np.zeros(len(self.mean))
        left = ~np.isin(self.drawn, np.asarray(excluded, dtype=np.int64))
        drawn = self.drawn[left]
        if len(drawn):
            first = self.draws[:, left].argmin(axis=1)
            best[drawn] = np.bincount(first, minlength=len(drawn)) / len(self.draws)
        return best

    def expected_regret(self, index: int) -> float:
        """Expected score of the best pair less that of a pair, 0 to 1.

        Args:
            index: index of the pair, one of `drawn`.
        """
        errors = np.minimum(np.exp(self.draws), 1.0)
        chosen = errors[:, np.flatnonzero(self.drawn == index)[0]]
        return float((chosen - errors.min(axis=1)).mean())

    def contrast(self, first: int, second: int) -> tuple[float, float]:
        """Mean and standard deviation of the first pair's ln error less the second's."""
        mean, covariance = self.joint(np.array([first, second]))
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        return float(mean[0] - mean[1]), math.sqrt(max(float(variance), 0.0))


class PoolModel(Protocol):
    """What a search needs of a model of the pool on one task, see `JointModel`."""

    candidates: tuple[Candidate, ...]
    values: Hyperparameters
    scored: int

    @property
    def means(self) -> Floats:
        """Posterior mean of ln error at r = 1, one entry per pair of the pool."""
        ...

    @property
    def posterior(self) -> Posterior:
        """The posterior of the whole pool at r = 1."""
        ...

    def at(self, candidates: Sequence[Candidate], samples: Sequence[int]) -> tuple[Floats, Floats]:
        """Posterior mean and covariance of ln error of pairs at numbers of samples."""
        ...


class JointModel:
    """The process of `effects`, fitted to the scores of a study.

    Attributes:
        candidates: all pairs of the pool.
        measured: number of measurements.
        scored: number of scores, likelihoods included.
        scores: the scores as the process sees them.
        correlations: prior correlations of the models' effects.
        values: the hyperparameters.
        process: the process given the scores.
        inflation: factor by which standard deviations of the posterior exceed the process's, at
            least 1, see `fitting.inflation`.
    """

    def __init__(
        self,
        scores: Iterable[tuple[Candidate, Measurement]],
        candidates: Sequence[Candidate],
        full_samples: int,
        *,
        similarities: Similarities | None = None,
        prior: Hyperprior = PRIOR,
        values: Hyperparameters | None = None,
        before: JointModel | None = None,
    ) -> None:
        """Fit the model.

        Args:
            scores: measurements of any pairs of the pool at any rungs; may be empty.
            candidates: all pairs of the pool, encoder by encoder.
            full_samples: D, at least 1.
            similarities: similarities of the pool's models; None if they were not compared.
            prior: priors of the hyperparameters.
            values: hyperparameters; None fits them.
            before: model of the same pool whose scores the new ones begin with and whose
                hyperparameters are `values`; it saves time in large pools.

        Raises:
            SearchError: if D is below 1.
        """
        require(full_samples >= 1, "full_samples", full_samples, "at least 1")
        self.candidates = tuple(candidates)
        self._full = full_samples
        self._encoders, self._llms = before._names if before else _names(candidates)
        given = tuple(scores)
        self.measured = len(given)
        self.scores = self._rows(given)
        self.scored = len(self.scores.values)
        self.correlations = self._correlations(similarities)
        self.values = values or most_probable(self.scores, self.correlations, prior)
        self.inflation: float = (
            before.inflation if before else inflation(self.scores, self.correlations, self.values)
        )
        earlier = before.process if before else None
        self.process: Process = Process(
            self.values, self.correlations, self.scores, before=earlier
        )
        self._is_independent = similarities is None

    @property
    def _names(self) -> tuple[dict[str, int], dict[str, int]]:
        return self._encoders, self._llms

    @cached_property
    def whole(self) -> Places:
        """All pairs at r = 1."""
        rows, columns = len(self._encoders), len(self._llms)
        return Places(
            np.repeat(np.arange(rows), columns),
            np.tile(np.arange(columns), rows),
            np.zeros(rows * columns),
            np.full(rows * columns, ERROR),
        )

    @staticmethod
    def following(
        before: JointModel | None,
        scores: Sequence[tuple[Candidate, Measurement]],
        candidates: Sequence[Candidate],
        full_samples: int,
        *,
        similarities: Similarities | None = None,
        prior: Hyperprior = PRIOR,
    ) -> JointModel:
        """The model of a growing list of scores; with many scores it is not fitted each time.

        Up to 400 scores the hyperparameters are fitted to all of them. Beyond, they are fitted to
        the first 400, 800, 1,600 and so on, so that they are a function of the scores' order.

        Args:
            before: the result for a shorter list, for speed alone; None if there is none.
            scores: the scores in the order in which they were asked for.
            candidates: see the class, like the other arguments.
            full_samples: D.
            similarities: similarities of the pool's models.
            prior: priors of the hyperparameters.
        """
        fitted = _fitted_to(len(scores))
        if fitted == len(scores):
            return JointModel(
                scores, candidates, full_samples, similarities=similarities, prior=prior
            )
        usable = before is not None and fitted <= before.measured < len(scores)
        first = before if usable else None
        if first is None:
            first = JointModel(
                scores[:fitted], candidates, full_samples, similarities=similarities, prior=prior
            )
        return JointModel(
            scores,
            candidates,
            full_samples,
            similarities=similarities,
            values=first.values,
            before=first,
        )

    def _correlations(self, similarities: Similarities | None) -> Correlations:
        free = Correlations.none(len(self._encoders), len(self._llms))
        if similarities is None:
            return free
        encoders, llms = similarities.encoders, similarities.llms
        return Correlations(
            free.encoders if encoders is None else correlations_of(encoders),
            free.llms if llms is None else correlations_of(llms),
        )

    def places(self, candidates: Sequence[Candidate], samples: Sequence[int]) -> Places:
        """The inputs of the process for pairs of the pool at numbers of samples."""
        return Places(
            np.array([self._encoders[c.vision_encoder] for c in candidates], dtype=np.int64),
            np.array([self._llms[c.llm] for c in candidates], dtype=np.int64),
            np.log2(np.array(samples, dtype=float) / self._full),
            np.full(len(candidates), ERROR),
        )

    def _rows(self, seen: Sequence[tuple[Candidate, Measurement]]) -> Scores:
        rows = []
        for c, m in seen:
            rows.append((c, m.samples, ERROR, m.log_error, m.log_noise))
            early = math.log2(m.samples / self._full) < _LIKELIHOOD_BELOW
            if early and m.p_correct is not None and m.p_correct_stderr is not None:
                rest = max(1.0 - m.p_correct, _LEAST)
                noise = max(m.p_correct_stderr, _LEAST) / rest
                rows.append((c, m.samples, LIKELIHOOD, math.log(rest), noise))
        places = self.places([row[0] for row in rows], [row[1] for row in rows])
        places.kind[:] = [row[2] for row in rows]
        values = np.array([row[3] for row in rows], dtype=float)
        return Scores(places, values, np.array([row[4] for row in rows], dtype=float) ** 2)

    def at(self, candidates: Sequence[Candidate], samples: Sequence[int]) -> tuple[Floats, Floats]:
        """Posterior mean and covariance of ln error, in exact arithmetic over random seeds.

        Args:
            candidates: pairs of the pool, n entries; a pair may occur at several samples.
            samples: numbers of alignment samples, n entries of at least 1.

        Returns:
            Mean, n entries; covariance, n x n.
        """
        return self.process.at(self.places(candidates, samples))

    @cached_property
    def means(self) -> Floats:
        """Posterior mean of ln error at r = 1, one entry per pair of the pool."""
        return self.process.grid_mean()

    @cached_property
    def posterior(self) -> Posterior:
        """The posterior of the whole pool at r = 1."""
        return self._of_large_pool() if self._is_large else self._of_pool()

    @property
    def _is_large(self) -> bool:
        """Whether a system for each pair is too much, and none is needed."""
        return self._is_independent and len(self.candidates) > _CHUNK

    def _of_pool(self) -> Posterior:
        """The posterior, in parts that fit into memory."""
        parts = [
            self.process.moments(self.whole.part(slice(start, start + _CHUNK)))
            for start in range(0, len(self.candidates), _CHUNK)
        ]
        mean, variance = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Posterior(
            self.candidates,
            mean,
            self.inflation * np.sqrt(variance),
            self.values.noise,
            lambda rows: self._inflated(*self.process.at(self.whole.part(rows))),
        )

    def _of_large_pool(self) -> Posterior:
        ends, means = self.process.ends(), self.means
        return Posterior(
            self.candidates,
            means,
            self.inflation * np.sqrt(ends.variance),
            self.values.noise,
            lambda rows: self._inflated(means[rows], ends.covariance(rows)),
        )

    def _inflated(self, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
        return mean, self.inflation**2 * covariance


def lowest(values: Floats, count: int) -> Indices:
    """Indices of the lowest values, ascending by value; of equal ones the first come first.

    Args:
        values: any values.
        count: number of indices, at most that of the values.
    """
    if count < len(values):  # sorting a million values takes longer than finding the last one
        rows = np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
    else:
        rows = np.arange(len(values))
    return rows[np.argsort(values[rows], kind="stable")][:count]


def _names(candidates: Sequence[Candidate]) -> tuple[dict[str, int], dict[str, int]]:
    """Indices of the encoders and of the LLMs, in the order of their first pairs."""
    encoders = dict.fromkeys(c.vision_encoder for c in candidates)
    llms = dict.fromkeys(c.llm for c in candidates)
    return {n: i for i, n in enumerate(encoders)}, {n: j for j, n in enumerate(llms)}


def _fitted_to(count: int) -> int:
    """Number of the first of `count` scores that hyperparameters are fitted to."""
    return count if count <= _REFITTED else _REFITTED * 2 ** int(math.log2(count / _REFITTED))


def joint_posterior(
    scores: Iterable[tuple[Candidate, Measurement]],
    candidates: Sequence[Candidate],
    full_samples: int,
    similarities: Similarities | None = None,
) -> Posterior:
    """The posterior of the whole pool given all scores of a study, see `JointModel`."""
    return JointModel(scores, candidates, full_samples, similarities=similarities).posterior


def independent_posterior(
    candidates: Sequence[Candidate], mean: Sequence[float], deviation: Sequence[float]
) -> Posterior:
    """The posterior of pairs that were estimated one by one.

    Args:
        candidates: the pairs.
        mean: mean of ln error at r = 1, one entry per pair.
        deviation: standard deviation of ln error at r = 1, one entry per pair.
    """
    y, s = np.array(mean), np.array(deviation)
    return Posterior(
        tuple(candidates), y, s, RUN_NOISE, lambda rows: (y[rows], np.diag(s[rows] ** 2))
    )


def posterior_draws(mean: Floats, covariance: Floats, *, seed: int = 0) -> Floats:
    """Draws of n jointly normal values.

    Args:
        mean: means, n entries.
        covariance: covariance, n x n.
        seed: random seed; equal seeds give equal draws.

    Returns:
        4,096 x n.
    """
    jitter = 1e-9 * max(1.0, float(covariance.diagonal().max()))
    factor = cholesky(covariance + jitter * np.eye(len(mean)), lower=True)
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(mean)))
    return np.asarray(mean + noise @ factor.T)


def probability_of_best(mean: Floats, covariance: Floats, *, seed: int = 0) -> Floats:
    """Probability that each of n jointly normal errors is the lowest, by Monte Carlo.

    Args:
        mean: means, n entries.
        covariance: covariance, n x n.
        seed: random seed of the draws; equal seeds give equal probabilities.
    """
    lowest = posterior_draws(mean, covariance, seed=seed).argmin(axis=1)
    return np.asarray(np.bincount(lowest, minlength=len(mean)) / _DRAWS)
