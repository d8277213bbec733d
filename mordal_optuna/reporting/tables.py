"""The result in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mordal_optuna.reporting.words import (
    candidate_cost,
    cost_sentence,
    ending,
    further,
    headline,
    interval,
    known,
    percent,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.search.result import Representation, StudyResult


def print_result(result: StudyResult, console: Console) -> None:
    """Print ranking, warnings, winner, cost, clusters and why the search ended.

    Args:
        result: of any method, finished or not.
        console: where to print; 100 columns are enough.
    """
    console.print()
    console.print(_ranking(result))
    console.print("~ cannot be told from the best", style="dim", highlight=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=9)
    grid.add_column()
    for text in result.warnings:
        grid.add_row("warning", text, style="bold yellow")
    lines = [
        ("winner", headline(result)),
        ("cost", cost_sentence(result)),
        *([] if result.full_runs is None else [("", _parts(result))]),
        ("ended", ending(result)),
    ]
    if result.representation:
        lines += _clusters(result.representation)
    lines += [("also", further(score)) for score in result.further_scores]
    lines += [("failed", f"{c}: {reason}") for c, reason in result.failures.items()]
    for name, text in lines:
        grid.add_row(name, text)
    console.print(grid, highlight=False)


def _ranking(result: StudyResult) -> Table:
    table = Table(
        title=f"{result.study}: score on {result.task} after {result.full_samples:,} samples, %",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1),
        header_style="dim",
    )
    for name in ("rank", "", "vision encoder", "llm", "estimate", "interval", "known", "cost, s"):
        right = name in ("rank", "estimate", "cost, s")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "known")
    for rank, estimate in enumerate(result.ranking, start=1):
        wins = estimate.candidate == result.winner.candidate
        table.add_row(
            str(rank),
            "~" if estimate.candidate in result.tie_set else "",
            estimate.candidate.vision_encoder,
            estimate.candidate.llm,
            percent(estimate.value),
            interval(estimate),
            known(estimate),
            candidate_cost(result, estimate),
            style="bold" if wins else None,
        )
    return table


def _parts(result: StudyResult) -> str:
    costs = result.costs
    parts = {
        "features": costs.features,
        "similarity": costs.similarity,
        "warm-up": costs.warmup,
        "training": costs.training,
        "evaluation": costs.evaluation,
    }
    if costs.lost:
        parts["failed and lost"] = costs.lost
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())


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
