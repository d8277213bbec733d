"""A report as a table in the terminal, and as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from rich.table import Table
from rich.text import Text

from mordal_optuna.doctor.findings import Outcome

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.doctor.findings import Report

_STYLES: dict[Outcome, str] = {
    "ok": "green",
    "warning": "bold yellow",
    "failed": "bold red",
    "skipped": "dim",
}
# Columns of a subject's name, which goes on in the next row.
_SUBJECT = 24


def print_report(report: Report, console: Console) -> None:
    """Print a row for each finding, and how many there are of each outcome.

    Args:
        report: the report.
        console: console to print to; 100 columns are enough.
    """
    title = f"{report.study}: checks on {report.device}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(max_width=_SUBJECT, overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for one in report.findings:
        outcome = one.verdict.outcome
        table.add_row(
            Text("" if one.subject == before else one.subject, style="bold"),
            Text(one.check),
            Text(outcome, style=_STYLES[outcome]),
            Text(one.verdict.text),
        )
        before = one.subject
    console.print(table, highlight=False)
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in get_args(Outcome))
    console.print(f"{len(report.findings)} checks: {counts}", highlight=False)


def report_json(report: Report) -> dict[str, Any]:
    """A report as JSON values.

    Args:
        report: the report.
    """
    return {
        "study": report.study,
        "device": report.device,
        "passed": not report.count("failed"),
        "counts": {outcome: report.count(outcome) for outcome in get_args(Outcome)},
        "findings": [
            {
                "subject": one.subject,
                "models": list(one.models),
                "check": one.check,
                "outcome": one.verdict.outcome,
                "text": one.verdict.text,
            }
            for one in report.findings
        ],
    }
