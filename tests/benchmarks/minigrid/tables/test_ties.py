"""Ties: the groups are those of the product, and documents are compared as they were drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.ties import ties, with_answers
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.search.answers import Answers, contrast

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


@pytest.mark.parametrize(("method", "budget"), [("mordal", None), ("joint", 3.0)])
def test_groups_share_out_the_pool_and_shares_are_shares(
    tasks: tuple[TaskData, ...], method: str, budget: float | None
) -> None:
    found = ties(tasks[0], replicates=3, method=method, budget=budget)
    pairs = len(tasks[0].grid.candidates)
    assert 1 <= found.tied <= pairs
    assert 0 <= found.found <= found.held <= 1
    assert 0 <= found.said <= 1
    assert found.tied + found.open + found.untested + found.worse <= pairs + 2  # of medians


def test_the_winner_is_judged_by_the_truth(tasks: tuple[TaskData, ...]) -> None:
    """Not by the run that the search saw, whose best pair is another one now and then."""
    data, count = tasks[1], 12
    plan = set_up(data.grid, "mordal", method_settings("mordal"), 0, None).plan
    resampler, found, seen_best, errors = Resampler(data), [], [], []
    for number in range(count):
        drawn = resampler.replicate(number)
        history = with_answers(run_light(plan, drawn.grid).history, resampler, number)
        winner = plan.winner(history)
        assert winner is not None
        estimate = next(e for e in plan.ranker.rank(history) if e.candidate == winner)
        found.append(max(drawn.truth, key=drawn.truth.__getitem__) == winner)
        seen_best.append(max(drawn.truth, key=drawn.grid.truth) == winner)
        truth = data.truth[data.grid.candidates.index(winner), -1]
        errors.append(estimate.value - truth)
    judged = ties(data, replicates=count)
    assert judged.found == np.mean(found) != np.mean(seen_best)
    assert judged.full_error == pytest.approx(np.mean(errors))
    assert judged.error != pytest.approx(judged.full_error)


def test_a_replicates_documents_give_its_paired_errors(tasks: tuple[TaskData, ...]) -> None:
    """As drawn: a cluster that came twice counts twice."""
    data, number = tasks[0], 4
    resampler = Resampler(data)
    grid = resampler.grid(number)
    plan = set_up(data.grid, "mordal", method_settings("mordal"), 0, None).plan
    history = with_answers(run_light(plan, grid).history, resampler, number)
    one, other = (c for c in list(history.candidates)[:2])
    shared = max(
        {m.samples for m in history.of(one).measurements}
        & {m.samples for m in history.of(other).measurements}
    )
    seen = contrast(history.of(one).measurements, history.of(other).measurements)
    assert seen is not None
    assert seen.paired
    rows = [data.grid.candidates.index(c) for c in (one, other)]
    rung = data.samples.index(shared)
    difference = data.values[rows[0], rung] - data.values[rows[1], rung]
    drawn = Answers.unpacked(resampler.answers(number, one, shared).packed())
    assert drawn.sizes.sum() == pytest.approx(len(data.clusters), rel=0.2)
    # of the same size as on the documents themselves
    assert seen.stderr == pytest.approx(difference.std() / len(difference) ** 0.5, rel=0.6)
    assert np.isfinite(seen.stderr)
