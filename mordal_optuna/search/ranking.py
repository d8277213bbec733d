"""Ranking: estimates of every candidate at r = 1, with intervals and provenance.

Symbols:
    y, s   predicted ln error of a candidate at r = 1, and its standard error
    n, D   samples of a candidate's highest rung, and of a full alignment
    d_k    fall of the ln error of candidate k from n to D samples
    p      scores below D that make a curve
    z      normal quantile of the confidence level
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import VAGUE_SLOPE, Fit, fit_pool
from mordal_optuna.search.history import History
from mordal_optuna.search.joint.mean import posterior_of_mean
from mordal_optuna.search.joint.multitask import sharing
from mordal_optuna.search.joint.posterior import JointModel, Posterior, joint_posterior

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory

Provenance = Literal["measured", "extrapolated", "inferred", "none"]

# Histories whose estimates are cached. One step of a search ranks a few histories: all scores, and
# the scores below each rung of the race, which stay the same from step to step.
_CACHED = 8


@dataclass(frozen=True)
class Estimate:
    """Estimate of a candidate's score after a full alignment.

    Attributes:
        candidate: the pair.
        value: estimated score, 0 to 1.
        low: lower end of the interval, 0 to 1.
        high: upper end of the interval, 0 to 1.
        provenance: "measured" (fully trained), "extrapolated" (scored at p rungs or more),
            "inferred" (from fewer scores, or from other pairs alone) or "none" (given up before
            any score; value and interval say nothing and are shown nowhere).
        samples: highest rung that the candidate was scored at; 0 if never trained.
        seconds: device-seconds spent on the candidate.
        rising: whether the candidate's own points suggest an error that grows with data.
        best: probability of being the best pair of the pool; None if it was not computed.
    """

    candidate: Candidate
    value: float
    low: float
    high: float
    provenance: Provenance
    samples: int
    seconds: float
    rising: bool = False
    best: float | None = None


@dataclass(frozen=True)
class Belief:
    """An estimate as ln error, the scale that estimates are computed on.

    Attributes:
        y: predicted ln error at r = 1.
        s: standard error of y.
        provenance: see `Estimate`.
        rising: see `Estimate`.
    """

    y: float
    s: float
    provenance: Provenance
    rising: bool = False


Beliefs = dict["Candidate", Belief]


class Ranker:
    """Computes a ranking of the whole pool from a history.

    `rank` estimates the whole pool from all scores jointly, see `joint`. `rank_trained` is the
    ranking that a search asks for at every step; it estimates the candidates with scores one by
    one: fully trained candidates by their score, candidates with p points or more by their own
    curve (see `curves.fit_pool`), candidates with fewer points by the fall of the errors of other
    candidates over the same samples.

    Subclasses may override `fits`, `extrapolations`, `posterior`, `answer`, `provenance_of` and
    `belief_from_others`.

    Attributes:
        points: p, at least 2.
        confidence: confidence level of all intervals, above 0 and below 1.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        confidence: float = 0.95,
        points: int = 3,
        tasks: Mapping[str, float] | None = None,
    ) -> None:
        """Create a ranker of a pool.

        Args:
            tree: the pool and its clusters.
            full_samples: D, at least 1.
            confidence: confidence level of the intervals, above 0 and below 1.
            points: p, scores below D that make a curve, at least 2.
            tasks: weight of each task by its name, if there are several; the mean over them is
                then ranked by the models of the tasks.

        Raises:
            SearchError: if an argument is out of its range.
        """
        require(full_samples >= 1, "full_samples", full_samples, "at least 1")
        require(0 < confidence < 1, "confidence", confidence, "above 0 and below 1")
        require(points >= 2, "points", points, "at least 2")
        self._tree = tree
        self._full = full_samples
        self._tasks = dict(tasks or {})
        self.points = points
        self.confidence = confidence
        self._z = NormalDist().inv_cdf(0.5 + confidence / 2)
        self._create_cache()

    def _create_cache(self) -> None:
        # A cache and no state: estimates are a function of the history alone.
        self._trained = lru_cache(maxsize=_CACHED)(self._estimate_trained)

    def __getstate__(self) -> dict[str, Any]:
        # The cache cannot be pickled and must not be shared: a copy creates one of its own.
        return {name: value for name, value in vars(self).items() if name != "_trained"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._create_cache()

    def fits(self, history: History) -> dict[Candidate, Fit]:
        """The fitted curves of all candidates with at least p points below D."""
        points = {
            candidate: below
            for candidate, record in history.candidates.items()
            if len(below := self.points_below_full(record)) >= self.points
        }
        return fit_pool(points, least=self.points)

    def extrapolations(self, history: History) -> Beliefs:
        """The beliefs that candidates' own curves give, for candidates that have a curve."""
        extrapolated: Beliefs = {}
        for candidate, fit in self.fits(history).items():
            y, s = fit.log_error(self._full)
            extrapolated[candidate] = Belief(y, s, "extrapolated", fit.rising)
        return extrapolated

    def beliefs(self, history: History) -> Beliefs:
        """The beliefs about all candidates with scores, each estimated by itself."""
        curves = self.extrapolations(history)
        beliefs: Beliefs = {}
        for candidate, record in history.candidates.items():
            full = record.at(self._full)
            if full:
                beliefs[candidate] = Belief(full.log_error, full.log_noise, "measured")
            elif candidate in curves:
                beliefs[candidate] = curves[candidate]
        deep = dict(beliefs)
        falls: dict[int, tuple[float, float]] = {}
        for candidate, record in history.candidates.items():
            if candidate not in beliefs and record.measurements:
                top = record.top
                falls[top] = falls.get(top) or self._fall(history, top, deep)
                beliefs[candidate] = self.belief_from_others(record, falls[top])
        return beliefs

    def posterior(self, history: History) -> Posterior:
        """The joint posterior of the whole pool at r = 1, with probabilities of being best.

        That of the mean over several tasks comes from the posteriors of the tasks, see
        `joint.mean`; if a score of the mean does not tell the tasks' scores, from the means.
        """
        if self._tasks and _tells_tasks(history):
            return posterior_of_mean(self.task_posteriors(history, self._tasks), self._tasks)
        scores = _scores(history)
        return joint_posterior(scores, self._tree.candidates, self._full, self._tree.similarities)

    def task_posteriors(self, history: History, tasks: Iterable[str]) -> dict[str, Posterior]:
        """The joint posterior of each task of a study with several, from the scores of all tasks.

        Args:
            history: history of the study.
            tasks: names of the tasks.
        """
        models = {
            name: JointModel(
                _scores(history.of_task(name)),
                self._tree.candidates,
                self._full,
                similarities=self._tree.similarities,
            )
            for name in tasks
        }
        return {name: model.posterior for name, model in sharing(models).items()}

    def own_posterior(self, history: History) -> Posterior:
        """The posterior by which a search estimates pairs that it has not trained."""
        return self.posterior(history)

    def rank(self, history: History) -> tuple[Estimate, ...]:
        """Estimates of all candidates of the pool, best first; ties in the pool's order."""
        return self._estimates(history, self.posterior(history))

    def rank_own(self, history: History) -> tuple[Estimate, ...]:
        """The same by `own_posterior`, for decisions of a search about untrained pairs."""
        return self._estimates(history, self.own_posterior(history))

    def rank_with_chances(
        self, history: History, posterior: Posterior, given_up: Collection[Candidate] = ()
    ) -> tuple[Estimate, ...]:
        """The same ranking with each candidate's probability of being the best pair.

        Args:
            history: history of the study.
            posterior: result of `posterior` for that history.
            given_up: candidates that cannot be trained; they come last and have no probability.
        """
        out = [n for n, candidate in enumerate(posterior.candidates) if candidate in given_up]
        ranking = self._estimates(history, posterior, posterior.best_without(out).tolist())
        last = [
            replace(e, best=None, provenance=e.provenance if e.samples else "none")
            for e in ranking
            if e.candidate in given_up
        ]
        return (*(e for e in ranking if e.candidate not in given_up), *last)

    def _estimates(
        self, history: History, posterior: Posterior, chances: Sequence[float] | None = None
    ) -> tuple[Estimate, ...]:
        fits = self.fits(history)
        reach = self._z * posterior.deviation
        values, lows, highs = (
            np.clip(1.0 - np.exp(y), 0.0, 1.0)
            for y in (posterior.mean, posterior.mean + reach, posterior.mean - reach)
        )
        bests: Sequence[float | None] = chances or [None] * len(values)
        estimates = []
        for n in np.argsort(-values, kind="stable").tolist():
            candidate = posterior.candidates[n]
            record, fit = history.of(candidate), fits.get(candidate)
            estimates.append(
                Estimate(
                    candidate=candidate,
                    value=float(values[n]),
                    low=float(lows[n]),
                    high=float(highs[n]),
                    provenance=self.provenance_of(record),
                    samples=record.top,
                    seconds=record.seconds,
                    rising=bool(fit and fit.rising),
                    best=bests[n],
                )
            )
        return tuple(estimates)

    def provenance_of(self, record: CandidateHistory) -> Provenance:
        """How the estimate of a candidate with this history is obtained, see `Estimate`."""
        if record.at(self._full):
            return "measured"
        return "extrapolated" if len(record.rungs) >= self.points else "inferred"

    def answer(self, record: CandidateHistory, rung: int) -> float | None:
        """The value by which candidates are compared at a rung: the score there, or None."""
        measurement = record.at(rung)
        return measurement.score if measurement else None

    def rank_trained(self, history: History) -> tuple[Estimate, ...]:
        """Estimates of the candidates with scores, best first; fast for large pools."""
        return self._trained(tuple(history.candidates.items()))

    def tie_set(self, ranking: Sequence[Estimate]) -> tuple[Estimate, ...]:
        """The estimates within noise of the best one, best first.

        An estimate is outside the noise if its difference from the leader exceeds z times the root
        sum of squares of both standard errors, each read off the side of its interval that faces
        the other estimate.
        """
        leader = ranking[0]
        down = (leader.value - leader.low) ** 2
        return tuple(
            e for e in ranking if leader.value - e.value <= np.sqrt(down + (e.high - e.value) ** 2)
        )

    def _estimate_trained(
        self, records: tuple[tuple[Candidate, CandidateHistory], ...]
    ) -> tuple[Estimate, ...]:
        history = History(dict(records))
        return self._sorted(history, self.beliefs(history))

    def points_below_full(self, record: CandidateHistory) -> tuple[Measurement, ...]:
        """A candidate's scores below D, which a curve may be fitted to."""
        return tuple(m for m in record.measurements if m.samples < self._full)

    def _fall(
        self, history: History, samples: int, deep: Mapping[Candidate, Belief]
    ) -> tuple[float, float]:
        """Mean and spread of the fall d_k over the candidates scored at n and estimated at D.

        The vague slope counts as two observations, so that a few candidates that happen to agree
        do not pass for certainty. The standard error of each fall's end is added in squares.
        """
        distance = float(np.log(self._full / samples))
        falls = [
            (belief.y - at.log_error, belief.s)
            for candidate, belief in deep.items()
            if (at := history.of(candidate).at(samples))
        ]
        vague, spread = VAGUE_SLOPE.mean * distance, VAGUE_SLOPE.spread * distance
        mean = float(np.mean([vague, vague, *(fall for fall, _ in falls)]))
        squares = 2 * spread**2 + sum((fall - mean) ** 2 + s**2 for fall, s in falls)
        return mean, float(np.sqrt(squares / (2 + len(falls))))

    def belief_from_others(self, record: CandidateHistory, fall: tuple[float, float]) -> Belief:
        """The belief about a candidate with fewer than p points.

        Args:
            record: history of the candidate, with at least one score.
            fall: mean and spread of the fall of other candidates' ln error from the candidate's
                highest rung to D.
        """
        last, (mean, spread) = record.measurements[-1], fall
        return Belief(last.log_error + mean, float(np.hypot(last.log_noise, spread)), "inferred")

    def _sorted(
        self, history: History, beliefs: Mapping[Candidate, Belief]
    ) -> tuple[Estimate, ...]:
        estimates = [self._estimate(history, c, belief) for c, belief in beliefs.items()]
        encoder = {name: n for n, name in enumerate(self._tree.vision_encoders)}
        llm = {name: n for n, name in enumerate(self._tree.llms)}
        estimates.sort(key=lambda e: (encoder[e.candidate.vision_encoder], llm[e.candidate.llm]))
        return tuple(sorted(estimates, key=lambda e: -e.value))  # stable

    def _estimate(self, history: History, candidate: Candidate, belief: Belief) -> Estimate:
        record = history.of(candidate)
        reach = self._z * belief.s
        return Estimate(
            candidate=candidate,
            value=score_of(belief.y),
            low=score_of(belief.y + reach),
            high=score_of(belief.y - reach),
            provenance=belief.provenance,
            samples=record.top,
            seconds=record.seconds,
            rising=belief.rising,
        )


def _scores(history: History) -> list[tuple[Candidate, Measurement]]:
    return [(c, m) for c, record in history.candidates.items() for m in record.measurements]


def _tells_tasks(history: History) -> bool:
    """Whether every score of a history has the scores of the tasks that it is the mean of."""
    scores = [m for record in history.candidates.values() for m in record.rungs]
    return bool(scores) and all(m.by_task for m in scores)


def score_of(log_error: float) -> float:
    """The score of an ln error, clipped to 0..1."""
    return min(max(1.0 - math.exp(log_error), 0.0), 1.0)
