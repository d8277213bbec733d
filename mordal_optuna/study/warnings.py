"""Reasons to doubt the answer of a study, a sentence each.

A search always names a winner, also where no candidate has learnt anything. What is looked for
here: scores of guessers, a learning rate that never rose, likelihoods that never moved, answers
that the task could not use, samples that were left out.

Symbols:
    c         chance, the score of one who guesses
    x_i, s_i  a score and its standard error
    n         scores that are looked at
    D         samples of a full alignment
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scipy import special

from mordal_optuna.search.attributes import FACTS, store_value, stored_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement

# A score counts as above chance where guessers, all n together, exceed it this rarely.
_LEVEL = 0.05
# Share of samples left out from which on it is told.
_LEFT_OUT = 0.01
# A full alignment of fewer steps hardly moves a projector that starts at random.
_FEW_STEPS = 32
# Shares of a measurement's answers: above which they are told, and how.
_USELESS = {
    "cut": (0.05, "ended at the token limit"),
    "guessed": (0.05, "could not be read and were drawn at random"),
    "empty": (0.05, "were empty"),
    "alike": (0.9, "are one and the same"),
}


@dataclass(frozen=True)
class StudyFacts:
    """What a warning needs to know of a study beside its trials.

    Attributes:
        chance: c on the target task, 0..1.
        warmup_samples: samples over which the learning rate rises.
        batch_size: samples of an optimiser step.
        left_out: share of alignment samples, 0..1, whose images are broken; None where they are
            only seen while training.
    """

    chance: float
    warmup_samples: int
    batch_size: int
    left_out: float | None


def store_facts(study: Study, facts: StudyFacts) -> None:
    """Keep the facts with the study."""
    store_value(study, FACTS, asdict(facts))


def stored_facts(attributes: Mapping[str, Any]) -> StudyFacts | None:
    """What `store_facts` kept; None in studies of older versions and of plain Optuna.

    Args:
        attributes: all user attributes of the study.
    """
    found = stored_value(attributes, FACTS)
    return StudyFacts(**found) if found else None


def doubts_before(facts: StudyFacts, full_samples: int) -> tuple[str, ...]:
    """What can be doubted before anything is trained.

    Args:
        facts: of the study.
        full_samples: D.
    """
    found = (
        _warm_up(facts, full_samples, trained=None),
        _steps(facts, full_samples),
        _left_out(facts),
    )
    return tuple(text for text in found if text)


def doubts(
    curves: Mapping[Candidate, Sequence[Measurement]],
    winner: Candidate,
    facts: StudyFacts | None,
    full_samples: int,
) -> tuple[str, ...]:
    """What can be doubted of a study's result, the gravest first.

    Args:
        curves: scores by ascending samples; at least one.
        winner: as the plan names it.
        facts: of the study; None where they are not known.
        full_samples: D.
    """
    every = [point for points in curves.values() for point in points]
    rungs = sorted(point.samples for point in every)
    found: list[str | None] = []
    if facts:
        found.append(_chance(every, facts.chance))
        found.append(_warm_up(facts, full_samples, trained=(rungs[0], rungs[-1])))
        found.append(_steps(facts, full_samples))
    found.append(_flat(curves))
    found += _useless(curves, winner)
    if facts:
        found.append(_left_out(facts))
    return tuple(text for text in found if text)


def above_chance(point: Measurement, chance: float, looked_at: int = 1) -> bool | None:
    """Whether a score lies above that of a guesser by more than its noise.

    By a normal test at the 5 % level with Bonferroni's correction: (x - c) / s must exceed the
    quantile of 1 - .05 / n.

    Args:
        point: x and s; the noise is at least that of half a document.
        chance: c.
        looked_at: n.

    Returns:
        None where the noise is not known.
    """
    if point.stderr is None:
        return None
    noise = max(point.stderr, 0.5 / point.documents if point.documents else 0.0)
    quantile = float(special.ndtri(1 - _LEVEL / looked_at))
    return point.score - chance > quantile * noise


def at_chance(candidate: Candidate, point: Measurement, chance: float) -> str | None:
    """What to say of a candidate that scores as a guesser would; None where it does not."""
    if above_chance(point, chance) is not False:
        return None
    return (
        f"{candidate} scores {_percent(point.score)} % at {point.samples:,} samples, no better "
        f"than chance ({_percent(chance)} %); early rungs may, but no ranking can be read from "
        "such scores"
    )


def _chance(points: Sequence[Measurement], chance: float) -> str | None:
    above = [above_chance(point, chance, len(points)) for point in points]
    if any(above) or None in above:
        return None
    best = max(points, key=lambda point: point.score)
    return (
        f"no score is above chance ({_percent(chance)} %) by more than its noise: the best of "
        f"{len(points)} is {_percent(best.score)} %, so the ranking is one of guessers"
    )


def _warm_up(facts: StudyFacts, full_samples: int, trained: tuple[int, int] | None) -> str | None:
    """Of a rate that rises for too long.

    Args:
        facts: of the study.
        full_samples: D.
        trained: the lowest and the highest rung that was scored; None before the first.
    """
    warmup = facts.warmup_samples
    given = f"warmup_samples is {warmup:,}"
    if warmup >= full_samples:
        return (
            f"{given}, and a full alignment has {full_samples:,} samples: the learning rate never "
            "reaches its value, so candidates hardly train"
        )
    if trained and warmup >= trained[1]:
        return (
            f"{given}, and no candidate was trained on more than {trained[1]:,} samples: the "
            "learning rate never reached its value, so candidates hardly trained"
        )
    if trained and warmup >= trained[0]:
        return (
            f"{given}, and the lowest rung has {trained[0]:,} samples: scores there are of "
            "candidates whose learning rate was still rising"
        )
    return None


def _steps(facts: StudyFacts, full_samples: int) -> str | None:
    steps = full_samples // facts.batch_size
    if steps >= _FEW_STEPS:
        return None
    return (
        f"a full alignment of {full_samples:,} samples in batches of {facts.batch_size} is "
        f"{steps} optimiser step{'s' if steps > 1 else ''}: candidates hardly train"
    )


def _flat(curves: Mapping[Candidate, Sequence[Measurement]]) -> str | None:
    """Of likelihoods that never rose.

    A fall counts once it exceeds one standard error of the difference of two independent means.
    Rungs share their documents, so the true noise is far smaller, and one standard error is enough
    for the largest of many falls.
    """
    falls = []
    for points in curves.values():
        known = [(p.nll, p.nll_stderr) for p in points if p.nll is not None and p.nll_stderr]
        if len(known) > 1:
            (first, s), (last, t) = known[0], known[-1]
            assert s and t  # noqa: PT018 - for the type checker
            falls.append((first - last) / math.hypot(s, t))
    if not falls or max(falls) > 1:
        return None
    return (
        f"the likelihood of the reference answers rose for none of {len(falls)} candidates from "
        "its first rung to its last by more than its noise: training changed next to nothing"
    )


def _useless(
    curves: Mapping[Candidate, Sequence[Measurement]], winner: Candidate
) -> Iterator[str]:
    """Of the winner's answers that say nothing, with the candidate that has the most of them."""
    last = {candidate: points[-1] for candidate, points in curves.items()}
    for name, (most_allowed, told) in _USELESS.items():
        shares = {c: share for c, p in last.items() if (share := getattr(p, name)) is not None}
        if shares.get(winner, 0.0) <= most_allowed:
            continue
        worst = max(shares, key=shares.__getitem__)
        more = shares[worst] > shares[winner]
        most = f" (most: {worst}, {100 * shares[worst]:.0f} %)" if more else ""
        yield f"{100 * shares[winner]:.0f} % of the winner's answers {told}{most}"


def _left_out(facts: StudyFacts) -> str | None:
    if not facts.left_out or facts.left_out < _LEFT_OUT:
        return None
    return (
        f"{_percent(facts.left_out)} % of the alignment samples were left out, since their images "
        "are broken"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
