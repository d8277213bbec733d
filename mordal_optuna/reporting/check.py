"""A search compared with the grid of the same pool: its estimates and the measured scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from mordal_optuna.errors import SearchError
from mordal_optuna.reporting.words import (
    compared,
    interval,
    only_estimate,
    percent,
    provenance,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult


@dataclass(frozen=True)
class PairCheck:
    """One pair in both studies.

    Attributes:
        estimate: the search's estimate of the pair's score after all D samples.
        rank: rank of the pair in the search, from 1.
        truth: the grid's measurement at D; None if the grid could not train or score the pair.
        grid_rank: rank among the pairs that the grid measured, from 1; None without a measurement.
    """

    estimate: Estimate
    rank: int
    truth: Measurement | None
    grid_rank: int | None

    @property
    def difference(self) -> float | None:
        """The estimate less the measured score, -1..1; None without a measured score."""
        return None if self.truth is None else self.estimate.value - self.truth.score

    @property
    def holds(self) -> bool | None:
        """Whether the interval contains the measured score; None without a measured score."""
        if self.truth is None:
            return None
        return self.estimate.low <= self.truth.score <= self.estimate.high


@dataclass(frozen=True)
class Check:
    """A search compared with the grid.

    Attributes:
        task: name of the lmms-eval task.
        full_samples: D.
        pairs: all pairs, by descending measured score; those without one come last.
        winner: winner of the search.
        search_seconds: device-seconds of the search.
        grid_seconds: device-seconds to train every pair on D samples and score it once.
    """

    task: str
    full_samples: int
    pairs: tuple[PairCheck, ...]
    winner: Candidate
    search_seconds: float
    grid_seconds: float

    @property
    def best(self) -> PairCheck:
        """The pair with the highest measured score."""
        return self.pairs[0]

    @property
    def picked(self) -> PairCheck:
        """The search's winner."""
        return next(p for p in self.pairs if p.estimate.candidate == self.winner)

    @property
    def regret(self) -> float:
        """Measured score of the best pair less that of the winner, 0..1."""
        return _truth(self.best).score - _truth(self.picked).score

    @property
    def regret_stderr(self) -> float | None:
        """Standard error of the regret; None if a score came without its standard error.

        The root of the sum of squares of both standard errors. Both pairs are scored on the same
        documents, so it is too large if they find the same documents hard. 0 if the winner is the
        best pair.
        """
        if self.picked == self.best:
            return 0.0
        errors = [_truth(pair).stderr for pair in (self.best, self.picked)]
        return None if None in errors else math.hypot(*(e for e in errors if e is not None))

    @property
    def guessed(self) -> tuple[PairCheck, ...]:
        """Pairs that the grid measured and the search did not train fully."""
        return tuple(p for p in self.pairs if p.truth and p.estimate.provenance != "measured")


def compare(search: StudyResult, grid: StudyResult) -> Check:
    """Compare a search with the grid.

    Args:
        search: result of a search by any method.
        grid: result of the method `grid` on the same pool, task and alignment set.

    Raises:
        SearchError: if pool, task or size of the alignment set differ, or the grid has not
            measured the search's winner.
    """
    ranks = {e.candidate: n for n, e in enumerate(search.ranking, start=1)}
    if ranks.keys() != {e.candidate for e in grid.ranking} or (
        search.task,
        search.full_samples,
    ) != (
        grid.task,
        grid.full_samples,
    ):
        raise SearchError(
            f"studies {search.study!r} and {grid.study!r} were given; they must have the same "
            "pool, task and number of alignment samples"
        )
    truths = {e.candidate: _measured(grid, e.candidate) for e in grid.ranking}
    if truths[search.winner.candidate] is None:
        raise SearchError(
            f"study {grid.study!r} has no score of {search.winner.candidate} at "
            f"{grid.full_samples} samples; a check needs that of the search's winner"
        )
    scores = {c: truth.score for c, truth in truths.items() if truth}
    measured = sorted(scores, key=lambda c: -scores[c])
    order = [*measured, *(c for c, truth in truths.items() if not truth)]
    estimates = {e.candidate: e for e in search.ranking}
    pairs = tuple(
        PairCheck(
            estimates[c],
            ranks[c],
            truths[c],
            measured.index(c) + 1 if truths[c] else None,
        )
        for c in order
    )
    return Check(
        task=search.task,
        full_samples=search.full_samples,
        pairs=pairs,
        winner=search.winner.candidate,
        search_seconds=search.costs.total,
        grid_seconds=sum(t.train_seconds + t.eval_seconds for t in truths.values() if t),
    )


def print_check(check: Check, console: Console) -> None:
    """Print estimates beside measured scores, then regret, intervals and costs.

    Args:
        check: comparison to print.
        console: console to print to; 100 columns are enough.
    """
    console.print()
    console.print(_table(check))
    console.print("* the grid's score lies outside the interval", style="dim", highlight=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=9)
    grid.add_column()
    for name, text in (
        ("pick", pick_sentence(check)),
        ("intervals", interval_sentence(check)),
        ("cost", cost_sentence(check)),
    ):
        grid.add_row(name, text)
    console.print(grid, highlight=False)


def pick_sentence(check: Check) -> str:
    """Whether the search picked the best pair, and its regret otherwise."""
    best, picked = check.best, check.picked
    name, score = best.estimate.candidate, percent(_truth(best).score)
    if picked == best:
        return (
            f"the search picked the best pair of the grid, {name} ({score} %): regret 0.0 points."
        )
    error = check.regret_stderr
    noise = "" if error is None else f" ± {percent(error)}"
    return (
        f"the search picked {picked.estimate.candidate} ({percent(_truth(picked).score)} %, rank "
        f"{picked.grid_rank} of the grid); the best is {name} ({score} %): regret "
        f"{percent(check.regret)}{noise} points (one standard error, from the documents alone)."
    )


def interval_sentence(check: Check) -> str:
    """How many intervals contain the measured score."""
    guessed = check.guessed
    held = sum(bool(pair.holds) for pair in guessed)
    trained = sum(pair.truth is not None for pair in check.pairs) - len(guessed)
    return (
        f"{held} of the {len(guessed)} intervals of pairs that the search had not trained fully "
        f"contain the measured score; it measured the other {trained} itself."
    )


def cost_sentence(check: Check) -> str:
    """The costs of the search and of the grid."""
    search, grid = check.search_seconds, check.grid_seconds
    if not search or not grid:
        return "not known; the scores were reported without their device-seconds."
    return (
        f"{search:.0f} device-seconds for the search, {grid:.0f} for training every pair fully "
        f"and scoring it once, so the search cost {compared(grid, search)}."
    )


def _table(check: Check) -> Table:
    table = Table(
        title=(
            f"score on {check.task} after {check.full_samples:,} samples, %: the rank in the grid "
            "and in the search, the grid's score, the search's estimate"
        ),
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for name in ("grid", "search", "encoder", "llm", "score", "estimate", "off by", "interval"):
        left = name in ("encoder", "llm", "interval")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    table.add_column("provenance")
    for pair in check.pairs:
        estimate, difference = pair.estimate, pair.difference
        table.add_row(
            str(pair.grid_rank or "-"),
            str(pair.rank),
            estimate.candidate.vision_encoder,
            estimate.candidate.llm,
            percent(pair.truth.score) if pair.truth else "failed",
            only_estimate(estimate),
            "" if difference is None else f"{100 * difference:+.1f}",
            interval(estimate) + (" *" if pair.holds is False else ""),
            provenance(estimate),
            style="bold" if estimate.candidate == check.winner else None,
        )
    return table


def _measured(grid: StudyResult, candidate: Candidate) -> Measurement | None:
    points = grid.curves.get(candidate, ())
    return next((p for p in points if p.samples == grid.full_samples), None)


def _truth(pair: PairCheck) -> Measurement:
    assert pair.truth is not None  # ensured by `compare`
    return pair.truth
