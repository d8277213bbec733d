"""Studies of one task side by side: what each cost and picked, and what each says of the others.

Symbols:
    w, p    the winner of a study, and the pick of another one, as that study estimates them
    d       score of w less score of p after all samples, from the study's joint posterior
    tau     Kendall's tau-b of two rankings over the pairs that both estimate; the weighted tau
            counts mistakes at the top most (scipy.stats.weightedtau)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mordal_optuna.errors import ConfigError
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, stored_value
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.loading import displayed, load_begun
from mordal_optuna.study.planning import study_plan
from mordal_optuna.study.result import read_result, stored_representation
from mordal_optuna.study.resuming import resumed_settings
from mordal_optuna.study.stored import connected, read_study
from mordal_optuna.study.task_results import gain_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.answers import Contrast
    from mordal_optuna.search.joint.posterior import Posterior
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult

# Pairs that two rankings must share for a correlation.
_LEAST = 2


@dataclass(frozen=True)
class Side:
    """One of the studies.

    Attributes:
        result: its result, final or so far.
        posterior: its joint posterior of all pairs.
        confidence: confidence level of its intervals, above 0 and below 1.
    """

    result: StudyResult
    posterior: Posterior
    confidence: float


@dataclass(frozen=True)
class View:
    """What one study says of another one's pick.

    Attributes:
        by: name of the study that says it.
        of: name of the study whose pick it is.
        pick: the pick.
        rank: rank of the pick, from 1; None if the pair is not in the pool.
        pairs: number of pairs in the ranking.
        group: group of the pick, see `search.standings.Group`; None if it is not in the pool.
        estimate: estimate of the pick; None if it is not in the pool, or was given up unscored.
        regret: mean of d by the two estimates, -1 to 1; 0 if both studies picked the same pair;
            None without an estimate.
        low: lower end of the interval of d.
        high: upper end of the interval of d.
        probability: probability that the pick is better than the winner, d below 0.
        contrast: the winner's score less the pick's, measured at the same rung on the same
            documents; None if they were not, or are the same pair.
        margin: largest measured difference that is within noise; None without a contrast.
    """

    by: str
    of: str
    pick: Candidate
    rank: int | None
    pairs: int
    group: str | None = None
    estimate: Estimate | None = None
    regret: float | None = None
    low: float | None = None
    high: float | None = None
    probability: float | None = None
    contrast: Contrast | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How far two rankings agree.

    Attributes:
        studies: names of the two studies.
        pairs: number of pairs that both estimate.
        tau: Kendall's tau, -1 to 1; None with fewer than two pairs, or if one ranks nothing.
        weighted_tau: the weighted tau, -1 to 1; None as above.
    """

    studies: tuple[str, str]
    pairs: int
    tau: float | None
    weighted_tau: float | None


@dataclass(frozen=True)
class StudiesCompared:
    """Studies of one task.

    Attributes:
        task: name of the task, or of the mean of several.
        sides: the studies, in the order given.
        views: what each study says of every other one's pick.
        agreements: one for each two studies.
        notes: reasons why the numbers may not be comparable, a sentence each.
    """

    task: str
    sides: tuple[Side, ...]
    views: tuple[View, ...]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()


def load_side(settings: StudySettings) -> Side:
    """Read a study so far for a comparison; trains nothing and loads no torch.

    Args:
        settings: the study file's settings.

    Raises:
        ConfigError: if the database cannot be used; the message hides the password.
        SearchError: if the study does not exist, or has no score yet.
    """
    study = load_begun(settings)
    settings = resumed_settings(study, settings)
    plan = study_plan(settings, study.user_attrs[FULL_SAMPLES], stored_representation(study))
    result = read_result(study, plan, **displayed(settings))
    posterior = plan.ranker.posterior(study_history(study))
    return Side(result, posterior, plan.ranker.confidence)


def compare_studies(sides: Sequence[Side]) -> StudiesCompared:
    """Compare studies of one task.

    Args:
        sides: the studies, at least two.

    Raises:
        ConfigError: if there are fewer than two, two have one name, or their tasks differ.
    """
    names = [side.result.study for side in sides]
    if len(sides) < _LEAST or len(set(names)) < len(names):
        raise ConfigError(
            [f"compare: got {', '.join(names) or 'no study'}; it takes two or more different ones"]
        )
    first = sides[0].result
    for side in sides[1:]:
        if _tasks(side.result) != _tasks(first):
            raise ConfigError(
                [
                    f"compare: study {first.study!r} is on {_named(first)} and study "
                    f"{side.result.study!r} on {_named(side.result)}; only studies of one task, "
                    "with the same weights, can be compared"
                ]
            )
    return StudiesCompared(
        first.task,
        tuple(sides),
        tuple(_view(by, of) for of, by in permutations(sides, 2)),
        tuple(_agreement(a, b) for a, b in combinations(sides, 2)),
        tuple(_notes(sides)),
    )


def stored_method(settings: StudySettings) -> str | None:
    """The search method that a stored study has; None if it has not begun.

    Args:
        settings: settings with the study's name and its database.

    Raises:
        ConfigError: if the database's address is none.
        StoreError: if the database cannot be used.
    """
    with connected(settings.storage_url(), key=settings.storage_key) as connection:
        study = read_study(connection, settings.study) if connection else None
    config = stored_value(study.user_attrs, CONFIG) if study else None
    return config["search"]["method"] if config else None


def _tasks(result: StudyResult) -> dict[str, float]:
    """Weight of each target task by its name, of which only the ratios count."""
    if not result.tasks:
        return {result.task: 1.0}
    total = sum(task.weight for task in result.tasks)
    return {task.name: round(task.weight / total, 9) for task in result.tasks}


def _named(result: StudyResult) -> str:
    if not result.tasks:
        return result.task
    return " and ".join(f"{task.name} x {task.weight:g}" for task in result.tasks)


def _view(by: Side, of: Side) -> View:
    """What a study says of another one's pick."""
    result, pick = by.result, of.result.winner.candidate
    ranks = {e.candidate: n for n, e in enumerate(result.ranking, start=1)}
    names = (result.study, of.result.study)
    if pick not in ranks:
        return View(*names, pick, None, len(ranks))
    estimate = result.ranking[ranks[pick] - 1]
    standing = result.standings[pick]
    known = View(*names, pick, ranks[pick], len(ranks), standing.group)
    if estimate.provenance == "none":
        return known
    if pick == result.winner.candidate:
        return View(*names, pick, 1, len(ranks), standing.group, estimate, 0.0, 0.0, 0.0)
    d = gain_of(by.posterior, result.winner, estimate, by.confidence)
    return View(
        *(*names, pick, ranks[pick], len(ranks), standing.group, estimate),
        *(d.value, d.low, d.high, 1 - d.probability, standing.contrast, standing.margin),
    )


def _agreement(a: Side, b: Side) -> Agreement:
    values = [
        {e.candidate: e.value for e in side.result.ranking if e.provenance != "none"}
        for side in (a, b)
    ]
    common = [pair for pair in values[0] if pair in values[1]]
    names = (a.result.study, b.result.study)
    x, y = (np.array([value[pair] for pair in common]) for value in values)
    if len(common) < _LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Agreement(names, len(common), None, None)
    tau, weighted = stats.kendalltau(x, y).statistic, stats.weightedtau(x, y).statistic
    return Agreement(names, len(common), float(tau), float(weighted))


def _notes(sides: Sequence[Side]) -> list[str]:
    results = [side.result for side in sides]
    notes = []
    sizes = {result.study: result.full_samples for result in results}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        notes.append(f"estimates are after different numbers of samples: {shown}")
    unfinished = [result.study for result in results if result.stopped_because is None]
    if unfinished:
        notes.append(f"not finished, so its pick may change: {', '.join(unfinished)}")
    digests = [result.origin.digests for result in results]
    for part in sorted(set[str]().union(*digests)):
        known = [found[part] for found in digests if part in found]
        if any(other != known[0] for other in known[1:]):
            notes.append(f"{part.replace(':', ' ')} is not the same in all of them")
    return notes
