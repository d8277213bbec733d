"""The board of possible jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.joint.board import Board, Options, Situation, best_option, rounded
from tests.search.joint.test_choice import POOL, situation

if TYPE_CHECKING:
    import pytest


def board(given: Situation) -> Board:
    return Board(given, given.targets[0], Options.of(given))


def test_a_score_that_is_coming_lowers_the_uncertainty() -> None:
    given = situation()
    before = board(given).covariance.diagonal()[: len(POOL)]
    coming = replace(given, targets=(replace(given.targets[0], pending=((POOL[0], 16384),)),))
    after = board(coming).covariance.diagonal()[: len(POOL)]
    assert (after <= before + 1e-12).all()
    assert after[0] < before[0] - 1e-3


def test_a_score_on_fewer_documents_has_more_noise_at_its_rung_alone() -> None:
    given = situation()
    options = Options.of(given)
    whole = Board(given, given.targets[0], options).noise
    fewer = Board(given, replace(given.targets[0], by_rung={2048: 60}), options).noise
    early = np.array([rung == 2048 for _, rung in options.scores])
    assert 0 < early.sum() < len(early)
    assert (fewer[early] > 2 * whole[early]).all()
    assert (fewer[~early] == whole[~early]).all()


def test_rounding_errors_decide_nothing() -> None:
    values = np.array([1.0, 1.0 + 1e-13, 0.0, -np.inf, 123.456789012345])
    assert rounded(values)[0] == rounded(values)[1]
    assert rounded(values)[4] == 123.456789
    assert rounded(values)[3] == -np.inf


def test_large_pools_consider_their_most_promising_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mordal_optuna.search.joint.board._MOST", 5)
    monkeypatch.setattr("mordal_optuna.search.joint.board._FEWEST", 5)
    given = situation()
    best = np.argsort(given.targets[0].model.means, kind="stable")[:5]
    assert set(Options.of(given).candidates) == {POOL[n] for n in best}


def test_of_equal_values_the_first_usable_option_is_the_best() -> None:
    values = np.array([3.0, 5.0, 5.0 + 1e-12, 1.0])
    assert best_option(values, np.array([True, True, True, True])) == 1
    assert best_option(values, np.array([True, False, False, True])) == 0
    assert best_option(values, np.zeros(4, dtype=bool)) is None
