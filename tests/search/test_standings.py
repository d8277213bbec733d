"""Pairs compared with the winner: tied, open, untested, worse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mordal_optuna.search.answers import Answers
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.ranking import Estimate
from mordal_optuna.search.standings import GROUPS, Standing, in_order, standings
from tests.search.synthetic import FULL, RUNGS, plan, tree

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.plan import Plan

POOL = tree().candidates
EVERY = (*RUNGS, 2048, 4096, FULL)
HARD = np.random.default_rng(0).random(1000)


def scored(share: float, samples: int, *, flips: float = 0.02, seed: int = 0) -> Measurement:
    """Right on the easiest documents of a thousand, but for as many among them as beyond."""
    order, right = np.argsort(HARD), round(1000 * share)
    values = np.zeros(1000)
    values[order[:right]] = 1.0
    rng, count = np.random.default_rng(seed), round(500 * flips)
    values[rng.choice(order[:right], count, replace=False)] = 0.0
    values[rng.choice(order[right:], count, replace=False)] = 1.0
    stderr = float(values.std(ddof=1) / 1000**0.5)
    answers = Answers.of(values.tolist(), None, "d").packed()
    return Measurement(samples, float(values.mean()), stderr, 1000, answers=answers)


def history(shares: dict[Candidate, tuple[float, int]]) -> History:
    return History(
        {
            candidate: CandidateHistory(
                tuple(scored(share, n, seed=number) for n in EVERY if n <= top)
            )
            for number, (candidate, (share, top)) in enumerate(shares.items())
        }
    )


def ranked(known: History, best: dict[Candidate, float]) -> list[Estimate]:
    """Estimates at the last score, or .4, with the probabilities given."""
    found = []
    for candidate in POOL:
        curve = known.of(candidate).measurements
        value = curve[-1].score if curve else 0.4
        found.append(
            Estimate(
                candidate,
                value,
                value - 0.1,
                value + 0.1,
                "inferred",
                known.of(candidate).top,
                0.0,
                best=best.get(candidate, 0.0),
            )
        )
    return sorted(found, key=lambda e: -e.value)


def groups(
    chosen: Plan, known: History, best: dict[Candidate, float], run_noise: float = 0.0
) -> dict[Candidate, Standing]:
    winner = chosen.winner(known)
    assert winner is not None
    return standings(chosen, known, ranked(known, best), winner, run_noise=run_noise)


A, B, C, D, E, *REST = POOL


def test_measured_pairs_are_tied_within_the_noise_of_paired_documents() -> None:
    """2 points apart are within the noise of single scores, but not of a thousand paired ones."""
    known = history({A: (0.70, FULL), B: (0.695, FULL), C: (0.62, FULL)})
    found = groups(plan(), known, {A: 0.99})
    assert [found[c].group for c in (A, B, C)] == ["tied", "tied", "worse"]
    seen = found[C].contrast
    assert seen is not None
    assert seen.paired
    assert (
        seen.stderr
        < 0.012
        < 0.02
        < np.hypot(*(known.of(c).measurements[-1].noise for c in (A, C)))
    )


def test_random_seeds_are_noise_as_well() -> None:
    known = history({A: (0.70, FULL), C: (0.62, FULL)})
    assert groups(plan(), known, {A: 0.99})[C].group == "worse"
    assert groups(plan(), known, {A: 0.99}, run_noise=0.2)[C].group == "tied"


def quantile(standing: Standing) -> float:
    """How many standard errors the margin is."""
    assert standing.margin
    assert standing.contrast
    return standing.margin / standing.contrast.stderr


def test_the_more_are_compared_the_wider_the_margin() -> None:
    two = groups(plan(), history({A: (0.70, FULL), B: (0.68, FULL)}), {A: 1.0})
    shares = dict.fromkeys(POOL, (0.68, FULL))
    many = groups(plan(), history({**shares, A: (0.70, FULL)}), {A: 1.0})
    first, second = two[B], many[B]
    assert quantile(first) == pytest.approx(1.645, abs=0.001)
    assert quantile(second) == pytest.approx(2.498, abs=0.001)  # .05 / 8


def test_ties_are_around_the_winner_and_not_around_the_best_estimate() -> None:
    """An estimate above the winner's is open: it was not measured as the winner was."""
    known = history({A: (0.60, FULL), B: (0.59, FULL), C: (0.75, RUNGS[-1])})
    found = groups(plan(), known, {A: 0.5, B: 0.4, C: 0.1})
    assert [found[c].group for c in (A, B, C)] == ["tied", "tied", "open"]
    order = in_order(ranked(known, {A: 0.5, B: 0.4, C: 0.1}), found, A)
    assert [e.candidate for e in order[:3]] == [A, B, C]


def test_a_pair_estimated_above_the_winner_is_open_however_improbable() -> None:
    """Else a pair would stand below the line that promises more than the winner."""
    known = history({A: (0.60, FULL), C: (0.75, RUNGS[-1]), D: (0.5, RUNGS[-1])})
    found = groups(plan(), known, {A: 0.99, C: 0.005, D: 0.005})
    assert found[C].group == "open"
    assert found[D].group == "worse"


def test_the_most_probable_of_the_rest_are_open_until_the_confidence_is_reached() -> None:
    known = history(
        {A: (0.7, FULL), B: (0.5, RUNGS[-1]), C: (0.5, RUNGS[-1]), D: (0.4, RUNGS[-1])}
    )
    found = groups(plan(), known, {A: 0.5, C: 0.3, E: 0.16, B: 0.03, D: 0.01})
    assert {c for c, s in found.items() if s.group == "open"} == {C, E}
    # three scores, as many as a curve takes, and little hope
    assert found[B].group == found[D].group == "worse"
    assert {found[c].group for c in REST} == {"untested"}


def test_a_pair_eliminated_in_a_race_is_compared_at_the_highest_shared_rung() -> None:
    race = (2048, 4096)
    known = history({A: (0.70, 4096), B: (0.69, 2048), C: (0.6, 2048), D: (0.69, 1024)})
    chosen = plan(finalists=4, race=race)
    found = groups(chosen, known, {A: 0.9, D: 0.06})
    assert [found[c].group for c in (A, B, C, D)] == ["tied", "tied", "worse", "open"]
    assert found[B].contrast
    assert found[B].contrast.samples == 2048


def test_before_the_finish_no_pair_is_tied_by_measurement() -> None:
    known = history({A: (0.70, RUNGS[-1]), B: (0.69, RUNGS[-1])})
    found = groups(plan(), known, {A: 0.5, B: 0.5})
    assert found[A].group == "tied"  # who leads
    assert found[B].group == "open"


def test_every_pair_is_shown_once_and_groups_follow_one_another() -> None:
    known = history({A: (0.7, FULL), B: (0.69, FULL), C: (0.5, FULL), D: (0.4, RUNGS[0])})
    best = {A: 0.5, B: 0.3, E: 0.15, D: 0.05}
    found = groups(plan(), known, best)
    order = in_order(ranked(known, best), found, A)
    assert sorted(e.candidate for e in order) == sorted(POOL)
    places = [GROUPS.index(found[e.candidate].group) for e in order]
    assert places == sorted(places)
    assert replace(order[0]).candidate == A
