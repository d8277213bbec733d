"""A search beside the grid of the same pool: what it believed, and what is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from mordal_optuna.errors import SearchError
from mordal_optuna.reporting.words import compared, interval, known, percent

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult


@dataclass(frozen=True)
class PairCheck:
    """One candidate in both studies.

    Attributes:
        estimate: what the search believes of its score on all of the alignment set.
        rank: its rank in the search, from 1.
        truth: what the grid measured there; None where the grid could not train or score it.
        grid_rank: its rank among those that the grid measured, from 1; None without a score.
    """

    estimate: Estimate
    rank: int
    truth: Measurement | None
    grid_rank: int | None

    @property
    def difference(self) -> float | None:
        """The estimate less the measured score, -1..1."""
        return None if self.truth is None else self.estimate.value - self.truth.score

    @property
    def holds(self) -> bool | None:
        """Whether the search's interval holds the measured score."""
        if self.truth is None:
            return None
        return self.estimate.low <= self.truth.score <= self.estimate.high


@dataclass(frozen=True)
class Check:
    """A search judged by the grid.

    Attributes:
        task: lmms-eval name.
        full_samples: D.
        pairs: the whole pool, best of the grid first, those without a measured score last.
        winner: what the search picked.
        search_seconds: device-seconds of the search.
        grid_seconds: device-seconds of training every candidate fully and scoring it once.
    """

    task: str
    full_samples: int
    pairs: tuple[PairCheck, ...]
    winner: Candidate
    search_seconds: float
    grid_seconds: float

    @property
    def best(self) -> PairCheck:
        """The best of the grid."""
        return self.pairs[0]

    @property
    def picked(self) -> PairCheck:
        """The search's winner."""
        return next(p for p in self.pairs if p.estimate.candidate == self.winner)

    @property
    def regret(self) -> float:
        """Measured score of the best less that of the winner, 0..1."""
        return _truth(self.best).score - _truth(self.picked).score

    @property
    def regret_stderr(self) -> float | None:
        """Standard error of the regret; None where a score came without its own.

        The root sum of squares of both scores' standard errors. Both are scored on the same
        documents, so it is too large where the two find the same documents hard. 0 where the
        winner is the best.
        """
        if self.picked == self.best:
            return 0.0
        errors = [_truth(pair).stderr for pair in (self.best, self.picked)]
        return None if None in errors else math.hypot(*(e for e in errors if e is not None))

    @property
    def guessed(self) -> tuple[PairCheck, ...]:
        """Those that the grid measured and the search did not train fully."""
        return tuple(p for p in self.pairs if p.truth and p.estimate.provenance != "measured")


def compare(search: StudyResult, grid: StudyResult) -> Check:
    """Put a search beside the grid.

    Args:
        search: of any method.
        grid: every candidate of the same pool fully trained, on the same task.

    Raises:
        SearchError: if the two are of other pools, tasks or sizes of the alignment set, or the
            grid has not measured the search's winner.
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
    believed = {e.candidate: e for e in search.ranking}
    pairs = tuple(
        PairCheck(
            believed[c],
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
    """Print both side by side, then what that says of the search.

    Args:
        check: see `compare`.
        console: where to print; 100 columns are enough.
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
    """Whether the search picked the best pair, and what it loses otherwise."""
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
        f"{percent(check.regret)}{noise} points (one standard error, by the documents alone)."
    )


def interval_sentence(check: Check) -> str:
    """How many intervals hold the measured score."""
    guessed = check.guessed
    held = sum(bool(pair.holds) for pair in guessed)
    trained = sum(pair.truth is not None for pair in check.pairs) - len(guessed)
    return (
        f"{held} of the {len(guessed)} intervals of pairs that the search had not trained fully "
        f"hold the measured score; it has measured the other {trained} itself."
    )


def cost_sentence(check: Check) -> str:
    """Both costs."""
    search, grid = check.search_seconds, check.grid_seconds
    if not search or not grid:
        return "not known; the scores were reported without the device-seconds they took."
    return (
        f"{search:.0f} device-seconds for the search, {grid:.0f} for training every pair fully "
        f"and scoring it once: {compared(grid, search)}."
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
    table.add_column("known to the search")
    for pair in check.pairs:
        estimate, difference = pair.estimate, pair.difference
        table.add_row(
            str(pair.grid_rank or "-"),
            str(pair.rank),
            estimate.candidate.vision_encoder,
            estimate.candidate.llm,
            percent(pair.truth.score) if pair.truth else "failed",
            percent(estimate.value),
            "" if difference is None else f"{100 * difference:+.1f}",
            interval(estimate) + (" *" if pair.holds is False else ""),
            known(estimate),
            style="bold" if estimate.candidate == check.winner else None,
        )
    return table


def _measured(grid: StudyResult, candidate: Candidate) -> Measurement | None:
    points = grid.curves.get(candidate, ())
    return next((p for p in points if p.samples == grid.full_samples), None)


def _truth(pair: PairCheck) -> Measurement:
    assert pair.truth is not None  # `compare` sees to it
    return pair.truth
