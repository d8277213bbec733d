"""What the jobs of a round are chosen from: the possible jobs, and how uncertain their pairs are.

Symbols:
    p      a pair; y_p its ln error at r = 1, on one task
    o      a possible score: a pair at a rung
    w_p    weight of a pair
    C_po   posterior covariance of y_p less sum_p w_p y_p with the score o
    V_o    posterior variance of the score o with its noise
    c_o    cost of the job that gives the score o
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.joint.posterior import lowest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.joint.effects import Floats
    from mordal_optuna.search.joint.job_costs import JobCosts
    from mordal_optuna.search.joint.posterior import PoolModel

# Significant digits of values that are compared, so that rounding errors decide nothing.
_DIGITS = 9
# Pairs that are considered for jobs, the most promising ones of large pools: at most and at least,
# and the number of pairs times that of scores in between, so that a decision takes about a second.
_MOST, _FEWEST, _PRODUCT = 512, 64, 1 << 18


@dataclass(frozen=True)
class Move:
    """A pair that is trained further.

    Attributes:
        candidate: the pair.
        rungs: rungs at which it is scored, in samples, ascending; it is trained up to the last.
        tasks: names of the tasks that are scored at each rung; empty scores all at every rung.
    """

    candidate: Candidate
    rungs: tuple[int, ...]
    tasks: tuple[tuple[str, ...], ...] = ()

    def steps(self, tasks: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Each rung with the tasks that are scored there.

        Args:
            tasks: names of all tasks.
        """
        every = (tuple(tasks),) * len(self.rungs)
        yield from zip(self.rungs, self.tasks or every, strict=True)


@dataclass(frozen=True)
class Target:
    """A task that pairs are searched for.

    Attributes:
        model: the joint model of the task's scores that the round may depend on.
        name: name of the task; empty if there is one task.
        pending: scores on the task that were asked for and that the model has not got, as pair and
            rung.
        scored: scores on the task that are known or pending, as pair and rung.
        documents: number of documents behind a score at other rungs, for the expected noise.
        weight: weight of the task, above 0.
        by_rung: number of documents behind a score by rung, where it is known.
    """

    model: PoolModel
    documents: int
    name: str = ""
    pending: Sequence[tuple[Candidate, int]] = ()
    scored: frozenset[tuple[Candidate, int]] = frozenset()
    weight: float = 1.0
    by_rung: Mapping[int, int] = field(default_factory=dict)

    def documents_at(self, rung: int) -> int:
        """Number of documents behind a score at a rung."""
        return self.by_rung.get(rung, self.documents)


@dataclass(frozen=True)
class Situation:
    """Everything a round is chosen from.

    Attributes:
        targets: the tasks, at least one.
        tops: highest rung that each pair was asked for so far, in samples.
        excluded: pairs that cannot be trained.
        rungs: all rungs, ascending; the last is D.
        first: rungs to which an untrained pair may go at once, ascending.
        costs: expected costs.
        left: cost that the round may have, in the unit of `costs`; None for no limit.
        partly: whether a rung may be scored on some of the tasks; otherwise on all.
    """

    targets: tuple[Target, ...]
    tops: Mapping[Candidate, int]
    excluded: frozenset[Candidate]
    rungs: tuple[int, ...]
    first: tuple[int, ...]
    costs: JobCosts
    left: float | None = None
    partly: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(target.name for target in self.targets)


@dataclass(frozen=True)
class Options:
    """The considered pairs and the scores they may get.

    Attributes:
        candidates: the considered pairs, n entries.
        scores: possible scores as (index of the pair, rung).
        training: expected cost of the training before each score.
        scoring: expected cost of each score on each task, tasks x scores.
        missing: whether a task has no such score yet, tasks x scores.
    """

    candidates: tuple[Candidate, ...]
    scores: tuple[tuple[int, int], ...]
    training: Floats
    scoring: Floats
    missing: np.ndarray

    @property
    def prices(self) -> Floats:
        """c_o, with all tasks that have no such score."""
        return np.asarray(self.training + np.where(self.missing, self.scoring, 0.0).sum(axis=0))

    @staticmethod
    def of(situation: Situation) -> Options:
        """The jobs that a round may have: each pair one or two rungs further.

        An untrained pair may go to the rung of the start or the next one.
        """
        candidates = _considered(situation)
        scores = tuple(
            (index, rung)
            for index, candidate in enumerate(candidates)
            for rung in next_rungs(situation, candidate)
        )
        return Options.at(situation, candidates, scores)

    @staticmethod
    def at(
        situation: Situation,
        candidates: tuple[Candidate, ...],
        scores: tuple[tuple[int, int], ...],
        *,
        trained: bool = False,
    ) -> Options:
        """Given scores as options.

        Args:
            situation: the situation.
            candidates: the considered pairs.
            scores: the scores, as index of the pair and rung.
            trained: whether the pairs are trained to the rungs in any case.
        """
        pairs = [(candidates[index], rung) for index, rung in scores]
        costs, tops = situation.costs, situation.tops
        training = [0.0 if trained else costs.train(c, r - tops.get(c, 0)) for c, r in pairs]
        scoring = [[costs.evaluate(c, t.name) for c, _ in pairs] for t in situation.targets]
        missing = [[pair not in t.scored for pair in pairs] for t in situation.targets]
        return Options(
            candidates,
            scores,
            np.array(training),
            np.array(scoring),
            np.array(missing, dtype=bool),
        )


class Board:
    """The joint posterior on one task of the considered pairs at r = 1 and of their options.

    It is updated for each chosen score, which needs no value of the score: a Gaussian's covariance
    depends on where it is observed alone.

    Attributes:
        options: the considered pairs and their possible scores.
        mean: posterior means of y, n entries.
        covariance: posterior covariance of y, then of the options' scores without noise.
        noise: expected noise variance of the options' scores.
    """

    def __init__(self, situation: Situation, target: Target, options: Options) -> None:
        """The board at the beginning of a round.

        Args:
            situation: the situation.
            target: the task; its pending scores count as known.
            options: pairs and possible scores.
        """
        n, m = len(options.candidates), len(options.scores)
        places = [
            *((c, situation.rungs[-1]) for c in options.candidates),
            *((options.candidates[index], rung) for index, rung in options.scores),
            *target.pending,
        ]
        mean, covariance = target.model.at([c for c, _ in places], [rung for _, rung in places])
        noise = _expected_noise(mean[n:], [rung for _, rung in places[n:]], target)
        for row in range(n + m, len(places)):
            covariance = _observed(covariance, row, noise[row - n])
        self.options = options
        self.mean = mean[:n]
        self.covariance = covariance[: n + m, : n + m]
        self.noise = noise[:m]

    @property
    def count(self) -> int:
        """n, number of considered pairs."""
        return len(self.options.candidates)

    @property
    def cross(self) -> Floats:
        """Posterior covariance of y with the options' scores, n x options."""
        return np.asarray(self.covariance[: self.count, self.count :])

    @property
    def total(self) -> Floats:
        """V, one entry per option."""
        return np.asarray(self.covariance.diagonal()[self.count :] + self.noise)

    def falls(self, weights: Floats) -> Floats:
        """Fall of the weighted variance by each option, sum_p w_p C_po^2 / V_o."""
        cross = self.cross
        relative = cross - weights @ cross
        return np.asarray((weights[:, None] * relative**2).sum(axis=0) / self.total)

    def take(self, option: int) -> None:
        """Count the score of an option as known."""
        self.covariance = _observed(self.covariance, self.count + option, self.noise[option])


def _considered(situation: Situation) -> tuple[Candidate, ...]:
    models = [target.model for target in situation.targets]
    candidates = models[0].candidates
    most = max(_FEWEST, min(_MOST, _PRODUCT // max(1, models[0].scored)))
    if len(candidates) <= most:
        return candidates
    errors = sum(target.weight * np.exp(target.model.means) for target in situation.targets)
    return tuple(candidates[n] for n in np.sort(lowest(rounded(np.asarray(errors)), most)))


def next_rungs(situation: Situation, candidate: Candidate) -> Sequence[int]:
    """Rungs at which a pair may be scored next: one or two further, or the first ones.

    Also its newest rung, whose checkpoint is kept, if it lacks a task there.
    """
    if candidate in situation.excluded:
        return ()
    top = situation.tops.get(candidate, 0)
    if not top:
        return situation.first
    further = [rung for rung in situation.rungs if rung > top][:2]
    lacks = any((candidate, top) not in target.scored for target in situation.targets)
    return [top, *further] if situation.partly and lacks else further


def best_option(values: Floats, usable: np.ndarray) -> int | None:
    """The usable option with the highest value, of equal ones the first; None without."""
    if not usable.any():
        return None
    return int(np.argmax(np.where(usable, rounded(values), -np.inf)))


def rounded(values: Floats) -> Floats:
    """Values to nine significant digits."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        usable = np.isfinite(scale) & np.isfinite(values * scale)
        return np.where(usable, np.round(values * scale) / scale, values)


def _expected_noise(mean: Floats, rungs: Sequence[int], target: Target) -> Floats:
    """Noise of a score of ln error `mean`, by the delta method for a share of the documents."""
    error = np.clip(np.exp(mean), 1e-3, 0.99)
    documents = np.array([target.documents_at(rung) for rung in rungs], dtype=float)
    sampling = (1 - error) / error / documents
    return np.asarray(target.model.values.shared * sampling + target.model.values.noise**2)


def _observed(covariance: Floats, row: int, noise: float) -> Floats:
    """The covariance after the score of a row is known."""
    column = covariance[:, row]
    return covariance - np.outer(column, column) / (column[row] + noise)
