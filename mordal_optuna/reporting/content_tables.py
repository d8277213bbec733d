"""The tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.blocks import Column, Group, Row, Table
from mordal_optuna.reporting.reasons import why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.search.standings import Group as GroupName
    from mordal_optuna.study.result import StudyResult

_RANK, _PAIR = Column("rank", number=True), Column("pair")


def ranking_table(result: StudyResult) -> Table:
    """All pairs by group, each with its score, its estimate and why it was dropped."""
    ranks = {e.candidate: n for n, e in enumerate(result.ranking, start=1)}

    def rows(group: GroupName) -> tuple[Row, ...]:
        return tuple(
            Row(
                (
                    str(ranks[e.candidate]),
                    str(e.candidate),
                    words.last_score(result, e),
                    words.to_winner(result.standings[e.candidate], e),
                    words.estimated(e),
                    "" if e.provenance == "none" else e.provenance,
                    words.best_percent(e),
                    words.candidate_cost(result, e),
                    why(result, e),
                ),
                strong=e.candidate == result.winner.candidate,
                shaded=group == "tied",
            )
            for e in result.group(group)
        )

    return Table(
        f"Ranking of all {len(result.ranking)} pairs on {result.task}",
        (
            _RANK,
            _PAIR,
            Column("measured, % (samples)", number=True),
            Column("to the winner, points", number=True),
            Column("estimate, % (interval)", number=True),
            Column("provenance"),
            Column("best, %", number=True),
            Column("cost, s", number=True),
            Column("why", wraps=True),
        ),
        tuple(
            Group(found, title) for name, title in words.GROUPS.items() if (found := rows(name))
        ),
        header=1,
    )


def scores_table(result: StudyResult) -> Table:
    """The score of every trained pair at every rung, with its standard error, in %."""
    rungs = sorted({m.samples for points in result.curves.values() for m in points})
    rows = []
    for estimate in result.ranking:
        points = {m.samples: m for m in result.curves.get(estimate.candidate, ())}
        if points:
            cells = tuple(
                words.score(m.score, m.stderr, m.documents).removesuffix(" %")
                if (m := points.get(rung))
                else ""
                for rung in rungs
            )
            rows.append(Row((str(estimate.candidate), *cells)))
    return Table(
        f"Scores on {result.task} at each number of samples, in % with standard error",
        (_PAIR, *(Column(f"{rung:,}", number=True) for rung in rungs)),
        (Group(tuple(rows)),),
    )


def tasks_table(result: StudyResult) -> Table:
    """Each of several tasks: the one model for all, and the best pair for the task."""
    rows = tuple(
        Row(
            (
                task.name,
                f"{task.weight:g}",
                task_words.measured(task, result.winner.candidate),
                words.estimated(task.one_for_all),
                task_words.own_best(task),
                words.estimated(task.best),
                task_words.gain(task),
                task_words.better(task),
            )
        )
        for task in result.tasks
    )
    return Table(
        f"One model for all tasks, {result.winner.candidate}, and the best for each",
        (
            Column("task"),
            Column("weight", number=True),
            Column("one for all, measured", number=True),
            Column("estimate, % (interval)", number=True),
            Column("best for the task"),
            Column("its estimate, % (interval)", number=True),
            Column("gain, points", number=True),
            Column("better, %", number=True),
        ),
        (Group(rows),),
    )


def pairs_by_task(result: StudyResult) -> Table:
    """Estimate and rank of every pair on each of several tasks."""
    texts = [(task_words.ranked(task), task_words.intervals(task)) for task in result.tasks]
    rows = tuple(
        Row(
            (
                str(rank),
                str(e.candidate),
                words.only_estimate(e),
                *(f"{on[e.candidate]}, {between[e.candidate]}" for on, between in texts),
                "yes" if e.candidate in result.unbeaten else "",
            ),
            strong=e.candidate == result.winner.candidate,
            shaded=e.candidate in result.unbeaten,
        )
        for rank, e in enumerate(result.ranking, start=1)
    )
    names = tuple(Column(task.name, number=True) for task in result.tasks)
    return Table(
        "Estimates on each task, in %, with the rank there in brackets and the interval",
        (_RANK, _PAIR, Column("mean", number=True), *names, Column("unbeaten")),
        (Group(rows),),
        header=1,
    )


def costs_table(result: StudyResult) -> Table | None:
    """Costs by part; None if the cost of a full run is not known."""
    if result.full_run_seconds is None:
        return None
    parts = [*words.cost_parts(result.costs), ("total", result.costs.total)]
    rows = tuple(
        Row(
            (label, f"{seconds:.1f}", f"{seconds / result.full_run_seconds:.2f}"),
            strong=label == "total",
        )
        for label, seconds in parts
    )
    return Table(
        "Cost by part",
        (
            Column("part"),
            Column("device-seconds", number=True),
            Column("full-run equivalents", number=True),
        ),
        (Group(rows),),
    )


def times_table(result: StudyResult) -> Table:
    """Device-seconds by what the device did."""
    rows = tuple(
        Row((label, f"{seconds:.1f}", words.percent(share)), strong=label == "total")
        for label, seconds, share in words.time_parts(result.times)
    )
    return Table(
        "Device time by what it was spent on",
        (
            Column("part"),
            Column("device-seconds", number=True),
            Column("share, %", number=True),
        ),
        (Group(rows),),
    )


def similarity_table(
    names: Sequence[str], matrix: Sequence[Sequence[float]], caption: str
) -> Table:
    """Similarities of models, the numbers of a heatmap.

    Args:
        names: names of the models.
        matrix: similarity of each model to each, models x models.
        caption: what they are.
    """
    values = np.asarray(matrix, dtype=float)
    rows = tuple(
        Row((name, *("" if np.isnan(v) else f"{v:.2f}" for v in values[n])))
        for n, name in enumerate(names)
    )
    return Table(
        caption, (Column("model"), *(Column(name, number=True) for name in names)), (Group(rows),)
    )


def versions_table(versions: Sequence[Mapping[str, str]]) -> Table:
    """Versions of packages, a column for each set that the study has run with.

    Args:
        versions: versions by package, at least one set.
    """
    names = list(dict.fromkeys(name for one in versions for name in one))
    titles = (
        ("version",) if len(versions) == 1 else tuple(f"set {n + 1}" for n in range(len(versions)))
    )
    rows = tuple(Row((name, *(one.get(name, "-") for one in versions))) for name in names)
    return Table(
        "Versions that the study ran with",
        (Column("package"), *(Column(title) for title in titles)),
        (Group(rows),),
    )


def inputs_table(result: StudyResult) -> Table | None:
    """Commits and digests of models, tasks and data; None if none are stored."""
    origin = result.origin
    parts = [*origin.digests, *(part for part in origin.commits if part not in origin.digests)]
    rows = tuple(
        Row(
            (
                part.replace("vision_encoder:", "encoder ")
                .replace("llm:", "LLM ")
                .replace("task:", "task "),
                origin.commits.get(part, "-"),
                ", ".join(f"{a} {d}" for a, d in origin.digests.get(part, {}).items()),
            )
        )
        for part in parts
    )
    if not rows:
        return None
    return Table(
        "Inputs that the scores depend on",
        (Column("input"), Column("commit on the hub", wraps=True), Column("digests", wraps=True)),
        (Group(rows),),
    )
