"""The result of a study as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.task_tables import task_tables
from mordal_optuna.search.standings import GROUPS

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Group
    from mordal_optuna.study.result import Representation, StudyResult

# Title of each column, and whether it is aligned to the right.
_COLUMNS = (
    ("", True),
    ("vision encoder", False),
    ("llm", False),
    ("measured, %", True),
    ("to winner", True),
    ("estimate", True),
    ("best, %", True),
    ("cost, s", True),
)


def print_result(result: StudyResult, console: Console) -> None:
    """Print ranking, tasks, warnings, winner, ties, costs, clusters and why the search ended.

    Args:
        result: result of a finished or unfinished study.
        console: console to print to; 100 columns are enough.
    """
    console.print()
    for table in _ranking(result):
        console.print(table, highlight=False)
    console.print(
        "measured: score and samples. to winner: score less the winner's at the same rung ± "
        "noise, points.\n"
        f"estimate: score after all {result.full_samples:,} samples, with its interval. "
        "best: probability of being best.",
        style="dim",
        highlight=False,
    )
    for table in task_tables(result) if result.tasks else ():
        console.print(table, highlight=False)
    if result.tasks:
        console.print(
            "one for all, its %: estimates on the task after all samples. gain: their difference "
            "and its interval.\nbetter: probability that the task's best pair is better there.",
            style="dim",
            highlight=False,
        )
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=9)
    grid.add_column()
    for text in result.warnings:
        grid.add_row("warning", text, style="bold yellow")
    for name, text in _lines(result):
        grid.add_row(name, text)
    console.print(grid, highlight=False)


def _lines(result: StudyResult) -> list[tuple[str, str]]:
    lines = [("winner", words.headline(result)), ("ties", words.ties(result))]
    lines += [("", text) for text in [words.may_be_best(result)] if text]
    lines += [("challenger", words.challenger(c)) for c in result.challengers[:3]]
    if result.tasks:
        lines.append(("tasks", task_words.specialising(result)))
        lines.append(("", task_words.unbeaten(result)))
    lines.append(("cost", words.cost_sentence(result)))
    if result.full_runs is not None:
        lines.append(("", _parts(result)))
    lines.append(("ended", words.ending(result)))
    if result.representation:
        lines += _clusters(result.representation)
    lines += [("also", words.further(score)) for score in result.further_scores]
    lines += [("given up", f"{c}: {reason}") for c, reason in result.given_up.items()]
    left = {c: why for c, why in result.failures.items() if c not in result.given_up}
    lines += [("failed", f"{c}: {reason}") for c, reason in left.items()]
    return lines


def _ranking(result: StudyResult) -> list[Table]:
    """A table for each group with pairs; all have the same column widths."""
    rows = {
        group: [_row(result, rank, estimate) for rank, estimate in _ranked(result, group)]
        for group in GROUPS
    }
    whole = [[title for title, _ in _COLUMNS], *(row for group in rows.values() for row in group)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    tables: list[Table] = []
    for group in GROUPS:
        if rows[group]:
            title = words.GROUPS[group]
            tables.append(_table(title, rows[group], widths, first=not tables))
    if tables:
        tables[0].title = f"{result.study}: {result.task}\n{tables[0].title}"
    return tables


def _ranked(result: StudyResult, group: Group) -> list[tuple[int, Estimate]]:
    return [
        (rank, estimate)
        for rank, estimate in enumerate(result.ranking, start=1)
        if result.standings[estimate.candidate].group == group
    ]


def _table(title: str, rows: list[list[str]], widths: list[int], *, first: bool) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1),
        header_style="dim",
        show_header=first,
    )
    for (name, right), width in zip(_COLUMNS, widths, strict=True):
        table.add_column(name, justify="right" if right else "left", min_width=width)
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "1" else None)
    return table


def _row(result: StudyResult, rank: int, estimate: Estimate) -> list[str]:
    return [
        str(rank),
        estimate.candidate.vision_encoder,
        estimate.candidate.llm,
        words.last_score(result, estimate),
        words.to_winner(result.standings[estimate.candidate], estimate),
        words.estimated(estimate),
        words.best_percent(estimate),
        words.candidate_cost(result, estimate),
    ]


def _parts(result: StudyResult) -> str:
    parts = words.cost_parts(result.costs)
    return ", ".join(f"{label} {seconds:.1f} s" for label, seconds in parts)


def _clusters(representation: Representation) -> list[tuple[str, str]]:
    tree = representation.tree
    vision = dict.fromkeys(cluster.vision.members for cluster in tree.clusters)
    cut = f" (cut at {tree.thresholds.vision:.2f})" if tree.thresholds else ""
    lines = [("clusters", "vision encoders: " + " | ".join(", ".join(v) for v in vision) + cut)]
    for members in vision:
        llms = [
            ", ".join(cluster.llm.members)
            for cluster in tree.clusters
            if cluster.vision.members == members
        ]
        cut = f" (cut at {tree.thresholds.llms[members[0]]:.2f})" if tree.thresholds else ""
        lines.append(("", f"LLMs fed by {members[0]}: " + " | ".join(llms) + cut))
    return lines
