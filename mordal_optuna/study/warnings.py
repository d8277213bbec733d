"""Warnings: reasons to doubt the result of a study, one sentence each.

A search always names a winner, even if no candidate has learnt anything. The warnings look for
scores at chance level, a learning rate that never reached its full value, likelihoods that never
rose, answers that the task could not use, and alignment samples that were left out.

Symbols:
    c         chance: expected score of guessing
    x_i, s_i  score and its standard error
    n         number of scores examined
    D         number of alignment samples of a full alignment
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import SearchError
from mordal_optuna.search.attributes import FACTS, store_value, stored_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement

# Probability that the best of n guessed scores counts as above chance.
_LEVEL = 0.05
# Smallest share of left-out samples that is reported.
_LEFT_OUT = 0.01
# A full alignment of fewer optimiser steps barely moves a projector that starts at random.
_FEW_STEPS = 32
# Share of unusable answers by kind: the largest that is not reported, and its description.
_UNUSABLE = {
    "cut": (0.05, "ended at the token limit"),
    "guessed": (0.05, "could not be read and were drawn at random"),
    "empty": (0.05, "were empty"),
    "alike": (0.9, "are one and the same"),
    "differing": (0.1, "differ between the engine and the live model"),
}


@dataclass(frozen=True)
class StudyFacts:
    """Facts about a study, besides its trials, that warnings are based on.

    Attributes:
        chance: c on the target task, 0..1; the weighted mean if there are several target tasks.
        warmup_samples: number of alignment samples over which the learning rate rises, at least 0.
        batch_size: samples per optimiser step, at least 1.
        left_out: share of alignment samples with broken images or records, 0..1; None if they are
            only found while training.
        chances: c of each target task by its name, 0..1, if there are several; otherwise empty.
    """

    chance: float
    warmup_samples: int
    batch_size: int
    left_out: float | None
    chances: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its bounds.
        """
        for name, value, low, high in (
            ("chance", self.chance, 0, 1),
            ("warmup_samples", self.warmup_samples, 0, math.inf),
            ("batch_size", self.batch_size, 1, math.inf),
            ("left_out", self.left_out or 0.0, 0, 1),
            *((f"chance on {task}", chance, 0, 1) for task, chance in self.chances.items()),
        ):
            if not low <= value <= high:
                allowed = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                raise SearchError(f"{name}: got {value}; it must be {allowed}")


def store_facts(study: Study, facts: StudyFacts) -> None:
    """Store the facts with the study."""
    content = asdict(facts)
    if not facts.chances:
        del content["chances"]  # unknown to older versions, which read studies with one task
    store_value(study, FACTS, content)


def stored_facts(attributes: Mapping[str, Any]) -> StudyFacts | None:
    """The stored facts; None in studies of older versions and of plain Optuna.

    Args:
        attributes: all user attributes of the study.
    """
    content = stored_value(attributes, FACTS)
    return StudyFacts(**content) if content else None


def warnings_before_training(facts: StudyFacts, full_samples: int) -> tuple[str, ...]:
    """Warnings that are possible before any candidate is trained.

    Args:
        facts: facts about the study.
        full_samples: D.
    """
    warnings = (
        _warm_up(facts, full_samples, trained=None),
        _steps(facts, full_samples),
        _left_out(facts),
    )
    return tuple(text for text in warnings if text)


def result_warnings(
    curves: Mapping[Candidate, Sequence[Measurement]],
    winner: Candidate,
    facts: StudyFacts | None,
    full_samples: int,
) -> tuple[str, ...]:
    """Warnings about the result of a study, most serious first.

    With several target tasks, scores at chance and unusable answers are looked for on each.

    Args:
        curves: measurements of each trained candidate, by ascending samples; at least one.
        winner: the plan's winner.
        facts: facts about the study; None if they are not known.
        full_samples: D.
    """
    rungs = sorted(point.samples for points in curves.values() for point in points)
    tasks = _by_task(curves)
    warnings: list[str | None] = []
    if facts:
        for task, scores in tasks.items():
            points = [point for curve in scores.values() for point in curve]
            text = _chance(points, facts.chances.get(task, facts.chance))
            warnings.append(_on(task, text) if text else None)
        warnings.append(_warm_up(facts, full_samples, trained=(rungs[0], rungs[-1])))
        warnings.append(_steps(facts, full_samples))
    warnings.append(_flat(curves))
    for task, scores in tasks.items():
        warnings += [_on(task, text) for text in _unusable(scores, winner)]
    if facts:
        warnings.append(_left_out(facts))
    return tuple(text for text in warnings if text)


def above_chance(point: Measurement, chance: float, examined: int = 1) -> bool | None:
    """Whether a score is above chance by more than its noise.

    By a normal test at the 5 % level with Bonferroni's correction: (x - c) / s must exceed the
    quantile of 1 - .05 / n.

    Args:
        point: measurement with x and s; the noise is at least that of half a document.
        chance: c.
        examined: n.

    Returns:
        The outcome of the test; None if the noise is not known.
    """
    if point.stderr is None:
        return None
    noise = max(point.stderr, 0.5 / point.documents if point.documents else 0.0)
    quantile = NormalDist().inv_cdf(1 - _LEVEL / examined)
    return point.score - chance > quantile * noise


def _by_task(
    curves: Mapping[Candidate, Sequence[Measurement]],
) -> dict[str, Mapping[Candidate, Sequence[Measurement]]]:
    """The curves on each of several target tasks; one entry without a name if there is one."""
    names = {name: None for points in curves.values() for m in points for name in m.by_task}
    if not names:
        return {"": curves}
    return {
        name: {
            candidate: own
            for candidate, points in curves.items()
            if (own := [m.by_task[name] for m in points if name in m.by_task])
        }
        for name in names
    }


def _on(task: str, text: str) -> str:
    return f"{task}: {text}" if task else text


def at_chance(
    candidate: Candidate, point: Measurement, chance: float, task: str = ""
) -> str | None:
    """Warning about a candidate that scores no better than chance; None if it scores better.

    Args:
        candidate: the candidate.
        point: its measurement.
        chance: c.
        task: name of the task if the study has several target tasks.
    """
    if above_chance(point, chance) is not False:
        return None
    return _on(task, _at_chance(candidate, point, chance))


def _at_chance(candidate: Candidate, point: Measurement, chance: float) -> str:
    return (
        f"{candidate} scores {_percent(point.score)} % at {point.samples:,} samples, no better "
        f"than chance ({_percent(chance)} %); that is normal at early rungs, but such scores "
        "cannot rank candidates"
    )


def _chance(points: Sequence[Measurement], chance: float) -> str | None:
    above = [above_chance(point, chance, len(points)) for point in points]
    if any(above) or None in above:
        return None
    best = max(points, key=lambda point: point.score)
    return (
        f"no score is above chance ({_percent(chance)} %) by more than its noise: the best of "
        f"{len(points)} is {_percent(best.score)} %, so the ranking reflects guessing"
    )


def _warm_up(facts: StudyFacts, full_samples: int, trained: tuple[int, int] | None) -> str | None:
    """Warning about a learning rate that rises for too long.

    Args:
        facts: facts about the study.
        full_samples: D.
        trained: samples of the lowest and of the highest scored rung; None before the first score.
    """
    warmup = facts.warmup_samples
    given = f"warmup_samples is {warmup:,}"
    if warmup >= full_samples:
        return (
            f"{given}, and a full alignment has {full_samples:,} samples: the learning rate never "
            "reaches its full value, so candidates learn almost nothing"
        )
    if trained and warmup >= trained[1]:
        return (
            f"{given}, and no candidate was trained on more than {trained[1]:,} samples: the "
            "learning rate never reached its full value, so candidates learnt almost nothing"
        )
    if trained and warmup >= trained[0]:
        return (
            f"{given}, and the lowest rung has {trained[0]:,} samples: candidates are scored "
            "there while their learning rate is still rising"
        )
    return None


def _steps(facts: StudyFacts, full_samples: int) -> str | None:
    steps = full_samples // facts.batch_size
    if steps >= _FEW_STEPS:
        return None
    return (
        f"a full alignment of {full_samples:,} samples in batches of {facts.batch_size} is "
        f"{steps} optimiser step{'s' if steps > 1 else ''}: candidates learn almost nothing"
    )


def _flat(curves: Mapping[Candidate, Sequence[Measurement]]) -> str | None:
    """Warning about likelihoods that never rose, that is, whose -ln p never fell.

    A fall counts once it exceeds one standard error of the difference of two independent means.
    Rungs share their documents, so the true noise is far smaller, and one standard error is enough
    for the largest of many falls.
    """
    falls = []
    for points in curves.values():
        nlls = [(p.nll, p.nll_stderr) for p in points if p.nll is not None and p.nll_stderr]
        if len(nlls) > 1:
            (first, s), (last, t) = nlls[0], nlls[-1]
            assert s and t  # noqa: PT018 - for the type checker
            falls.append((first - last) / math.hypot(s, t))
    if not falls or max(falls) > 1:
        return None
    return (
        f"the likelihood of the reference answers rose for none of {len(falls)} candidates from "
        "its first rung to its last by more than its noise: training changed almost nothing"
    )


def _unusable(
    curves: Mapping[Candidate, Sequence[Measurement]], winner: Candidate
) -> Iterator[str]:
    """Warnings about unusable answers of the winner; each names the candidate with the most."""
    last = {candidate: points[-1] for candidate, points in curves.items()}
    for name, (limit, description) in _UNUSABLE.items():
        shares = {c: share for c, p in last.items() if (share := getattr(p, name)) is not None}
        if shares.get(winner, 0.0) <= limit:
            continue
        worst = max(shares, key=shares.__getitem__)
        more = shares[worst] > shares[winner]
        most = f" (most: {worst}, {100 * shares[worst]:.0f} %)" if more else ""
        yield f"{100 * shares[winner]:.0f} % of the winner's answers {description}{most}"


def _left_out(facts: StudyFacts) -> str | None:
    if not facts.left_out or facts.left_out < _LEFT_OUT:
        return None
    return (
        f"{_percent(facts.left_out)} % of the alignment samples were left out, since their images "
        "are broken or they are no conversations"
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
