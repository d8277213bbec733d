"""Sections of RESULTS.md about answers: groups, intervals, shared costs, lost best pairs."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.analysis import BILLED, TIED
from benchmarks.minigrid.tables.coverage import COMPARED, KINDS
from benchmarks.minigrid.tables.markdown import (
    NOT_APPLICABLE,
    cell,
    number,
    percent,
    prose,
    section,
    table,
)
from benchmarks.minigrid.tables.ties import Ties

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.analysis import Analysis
    from benchmarks.minigrid.tables.bootstrap import Interval


def ties_section(analysis: Analysis) -> str:
    """Groups of the ranking, and the winner's estimate."""
    header = (
        "method", "task", "best pair in the first two groups, %", "first group", "second group",
        "third group", "fourth group", "winner's probability of being best, %",
        "winner is best, %", "paired standard error", "unpaired standard error",
        "winner's error", "winner's error, truth", "measured less truth",
        "searches with a higher estimate, %",
    )  # fmt: skip
    rows = []
    for method, limit in TIED.items():
        found = {task: by_method[method] for task, by_method in analysis.ties.items()}
        mean = {
            f.name: float(np.mean([getattr(t, f.name) for t in found.values()]))
            for f in fields(Ties)
        }
        name = method if limit is None else f"{method}, {limit:g} full runs"
        rows += [(name, task, *_tie_row(t)) for task, t in found.items()]
        rows.append((name, "mean", *_tie_row(Ties(**mean))))
    note = (
        "Searches on the bootstraps. The first group is measured and within noise of the winner; "
        "the second is estimated and may be the best. Columns: how often the first two groups "
        "contain the best pair by the truth; the median number of pairs in each group; the "
        "winner's probability of being the best as the search gives it, and how often it is the "
        "best; the standard error of its lead over pairs measured at the same rung, from paired "
        "documents and from two separate scores, in points; the error of its estimate, signed, "
        "in points, against the same run trained fully and against the truth; how far its "
        "measured score lies above the mean over its runs at the same rung, which is selection "
        "bias; "
        "and in how many searches another pair is estimated above it."
    )
    return section("Ties and the winner", prose(note), table(header, rows, text=2))


def _tie_row(ties: Ties) -> list[str]:
    return [
        percent(ties.held),
        *(number(value, 0) for value in (ties.tied, ties.open, ties.untested, ties.worse)),
        percent(ties.said, 0),
        percent(ties.found, 0),
        *(percent(value) for value in (ties.paired, ties.unpaired, ties.error, ties.full_error)),
        percent(ties.luck),
        percent(ties.challenged, 0),
    ]


def intervals_section(analysis: Analysis) -> str:
    """How often 95 % intervals contain the truth."""
    rows = []
    for kind in KINDS:
        row = [kind]
        for variant in COMPARED:
            figures = [f[variant][kind] for f in analysis.intervals.values() if kind in f[variant]]
            if not figures:
                row += [NOT_APPLICABLE] * 5
                continue
            row += [percent(sum(f.share for f in figures) / len(analysis.intervals), 0)]
            covered, half, error, bias = (
                float(np.mean([getattr(f, name) for f in figures]))
                for name in ("covered", "half_width", "error", "bias")
            )
            row += [percent(covered, 0), percent(half), percent(error), percent(bias)]
        rows.append(row)
    header = ["estimates"]
    for variant in COMPARED:
        header += [f"{variant}: share, %", "interval contains the truth, %", "half width", "error"]
        header += ["signed bias"]
    note = (
        "How often the same run's score at r = 1 lies in the search's 95 % interval, on the full "
        "data and over bootstraps, by kind of estimate; half width, absolute error and signed "
        "bias (estimate less that score) in points; means over tasks. Users see the estimates "
        "from all scores together; the search decides by each pair's own curve."
    )
    return section("Intervals", prose(note), table(header, rows))


def store_section(analysis: Analysis) -> str:
    """Cost of all tasks together."""
    gains = ("gain_over_grid", "separate_over_grid", "gain_over_separate")
    rows = []
    for method, shared in analysis.shared.items():
        for kind, bill in (("measured", shared.measured), ("projected", shared.projected)):
            hours = (_hours(bill[name]) for name in BILLED)
            rows.append((method, kind, *hours, *(cell(bill[name], "gain") for name in gains)))
    header = (
        "method", "costs", "one store, h", "separate searches, h", "shared grid, h",
        "separate grids, h", "one store: times cheaper than the shared grid",
        "separate searches: times cheaper than the shared grid",
        "one store: times cheaper than separate searches",
    )  # fmt: skip
    note = (
        f"One search for each of {len(analysis.methods)} tasks; with one store a rung of a pair "
        "is trained once. Device-hours."
    )
    return section("All tasks from one store", prose(note), table(header, rows, text=2))


def _hours(seconds: Interval) -> str:
    assert seconds.value is not None
    return number(seconds.value / 3600, 2)


def post_mortems_section(analysis: Analysis) -> str:
    """Which decision lost the best pair."""
    header = (
        "task", "best pair", "picked pair", "lost by", "points lost", "lost in halving",
        "lost in curves", "lost in finish", "noise of the lead", "within noise",
    )  # fmt: skip
    rows = (
        (
            task,
            p.best,
            p.picked,
            p.decision or "found",
            *(percent(v, 2) for v in (p.regret, p.halving, p.curves, p.finish, p.noise)),
            "yes" if p.within_noise else "no",
        )
        for task, p in analysis.post_mortems.items()
    )
    note = (
        "The decision of `mordal` that lost the best pair on the full data, and the points of the "
        "truth lost at each stage."
    )
    return section("Post-mortems", prose(note), table(header, rows, text=4))
