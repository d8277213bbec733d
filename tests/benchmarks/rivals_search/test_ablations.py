"""Every row of the ablations changes what it says, and its name is its own."""

from __future__ import annotations

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Replicate, with_scores
from benchmarks.rivals_search.ablations import ABLATIONS, ALL, UNCHANGED, without_likelihoods
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.problem import Problem
from benchmarks.rivals_search.replays import run_one
from mordal_optuna.replay.synthetic import synthetic_grid


def test_a_name_has_one_row() -> None:
    assert len(ALL) == len(METHODS) + len(ABLATIONS)
    assert UNCHANGED in ABLATIONS


def test_every_row_but_that_of_likelihoods_differs_from_the_unchanged_search() -> None:
    """Synthetic grids have no likelihoods, so that row is the same there."""
    grid = synthetic_grid(1)
    seen = Replicate(grid, {c: grid.truth(c) for c in grid.candidates})
    problem = Problem(seen.grid, (), 6.0, seed=1)
    found = {name: run_one(row, problem, seen, seen) for name, row in ABLATIONS.items()}
    same = {name for name, values in found.items() if values == found[UNCHANGED]}
    assert same == {UNCHANGED, "score-alone"}


def test_without_likelihoods_the_scores_are_the_same_and_the_model_sees_no_other() -> None:
    plain = synthetic_grid(2)
    scores = np.array([c.score for c in plain.curves])
    grid = with_scores(plain, scores, scores / 50, (scores, scores), (scores, scores))
    found = without_likelihoods(grid)
    for candidate in grid.candidates:
        for own, other in zip(
            found.measurements(candidate), grid.measurements(candidate), strict=True
        ):
            assert own.nll is own.nll_stderr is own.p_correct is own.p_correct_stderr is None
            assert other.p_correct is not None
            assert (own.score, own.stderr, own.train_seconds) == (
                other.score, other.stderr, other.train_seconds
            )  # fmt: skip
