"""Studies of one task side by side, in the terminal and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from mordal_optuna.reporting import words

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.study.comparing import Agreement, Side, StudiesCompared, View


def compared_json(compared: StudiesCompared) -> dict[str, Any]:
    """A comparison as JSON values; `docs/report.md` describes the keys.

    Args:
        compared: the comparison.
    """
    return {
        "task": compared.task,
        "studies": [_side(side) for side in compared.sides],
        "picks": [_view(view) for view in compared.views],
        "agreement": [
            {
                "studies": list(a.studies),
                "pairs": a.pairs,
                "tau": a.tau,
                "weighted_tau": a.weighted_tau,
            }
            for a in compared.agreements
        ],
        "notes": list(compared.notes),
    }


def print_compared(compared: StudiesCompared, console: Console) -> None:
    """Print a comparison.

    Args:
        compared: the comparison.
        console: console to print to; 100 columns are enough.
    """
    console.print(Text(f"{len(compared.sides)} studies of {compared.task}", style="bold"))
    console.print(_studies(compared), highlight=False)
    console.print()
    for view in compared.views:
        console.print(Text(view_sentence(view)), highlight=False)
    console.print()
    for agreement in compared.agreements:
        console.print(Text(agreement_sentence(agreement)), highlight=False)
    for note in compared.notes:
        console.print(Text(f"note: {note}"), style="yellow", highlight=False)


def view_sentence(view: View) -> str:
    """What one study says of another one's pick: rank, group and regret with its noise."""
    begin = f"{view.of} picked {view.pick}: by {view.by} "
    if view.rank is None:
        return f"{begin}it is not in the pool."
    if view.estimate is None or view.regret is None:
        return f"{begin}it could not be trained (rank {view.rank} of {view.pairs})."
    if view.rank == 1:
        return f"{begin}the winner as well: regret 0.0 points."
    text = (
        f"{begin}rank {view.rank} of {view.pairs}, {words.GROUPS[view.group].split(':')[0]}; "  # type: ignore[index]
        f"regret {100 * view.regret:+.1f} points ({_points(view.low)} to {_points(view.high)}), "
        f"better than its own winner with probability {view.probability or 0:.2f}"
    )
    if view.contrast is not None and view.margin is not None:
        text += (
            f"; measured at {view.contrast.samples:,} samples "
            f"{100 * view.contrast.difference:+.1f} ± {100 * view.margin:.1f}"
        )
    return f"{text}."


def agreement_sentence(agreement: Agreement) -> str:
    """How far two rankings agree."""
    a, b = agreement.studies
    if agreement.tau is None or agreement.weighted_tau is None:
        return f"{a} and {b} have too few pairs in common for a rank correlation."
    return (
        f"{a} and {b} rank {agreement.pairs} common pairs with Kendall's tau {agreement.tau:.2f} "
        f"({agreement.weighted_tau:.2f} if mistakes at the top weigh most)."
    )


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _studies(compared: StudiesCompared) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("study", overflow="fold")
    table.add_column("method", overflow="fold")
    table.add_column("cost, s", justify="right", no_wrap=True)
    table.add_column("full runs", justify="right", no_wrap=True)
    table.add_column("picked pair", overflow="fold")
    table.add_column("measured, %", justify="right", no_wrap=True)
    table.add_column("estimate, %", justify="right", no_wrap=True)
    for side in compared.sides:
        result = side.result
        table.add_row(
            Text(result.study),
            result.method,
            f"{result.costs.total:,.0f}",
            "-" if result.full_runs is None else f"{result.full_runs:.2f}",
            Text(str(result.winner.candidate) + ("" if result.final else " (so far)")),
            words.last_score(result, result.winner),
            words.estimated(result.winner),
        )
    return table


def _side(side: Side) -> dict[str, Any]:
    result = side.result
    measured = result.measured
    return {
        "study": result.study,
        "method": result.method,
        "finished": result.stopped_because is not None,
        "final": result.final,
        "pairs": len(result.ranking),
        "full_samples": result.full_samples,
        "device_seconds": result.costs.total,
        "full_runs": result.full_runs,
        "pick": {
            "vision_encoder": result.winner.candidate.vision_encoder,
            "llm": result.winner.candidate.llm,
            "samples": measured.samples,
            "score": measured.score,
            "stderr": measured.stderr,
            "estimate": {
                "value": result.winner.value,
                "low": result.winner.low,
                "high": result.winner.high,
            },
        },
    }


def _view(view: View) -> dict[str, Any]:
    contrast = view.contrast
    return {
        "by": view.by,
        "of": view.of,
        "vision_encoder": view.pick.vision_encoder,
        "llm": view.pick.llm,
        "rank": view.rank,
        "pairs": view.pairs,
        "group": view.group,
        "estimate": view.estimate.value if view.estimate else None,
        "regret": view.regret,
        "low": view.low,
        "high": view.high,
        "probability_better": view.probability,
        "measured": None
        if contrast is None
        else {
            "samples": contrast.samples,
            "regret": contrast.difference,
            "margin": view.margin,
            "paired": contrast.paired,
        },
    }
