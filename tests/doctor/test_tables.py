"""The table and JSON of a report."""

from __future__ import annotations

import io

from rich.console import Console

from mordal_optuna.doctor.findings import Finding, Report, failed, ok, skipped, warning
from mordal_optuna.doctor.tables import print_report, report_json

REPORT = Report(
    "s",
    "cpu",
    (
        Finding("study", "data", ok("64 samples")),
        Finding("clip", "loads", ok("0.1 M parameters"), ("clip",)),
        Finding("clip", "layer", warning("[bold] is no markup"), ("clip",)),
        Finding("clip + llama", "joins", failed("widths differ"), ("clip", "llama")),
        Finding("clip + llama", "loss", skipped("not joined"), ("clip", "llama")),
    ),
)


def test_a_table_names_each_subject_once() -> None:
    out = io.StringIO()
    print_report(REPORT, Console(file=out, width=100))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert rows == [
        ["s:", "checks", "on", "cpu"],
        ["study", "data", "ok", "64", "samples"],
        ["clip", "loads", "ok", "0.1", "M", "parameters"],
        ["layer", "warning", "[bold]", "is", "no", "markup"],
        ["clip", "+", "llama", "joins", "failed", "widths", "differ"],
        ["loss", "skipped", "not", "joined"],
        ["5", "checks:", "2", "ok,", "1", "warning,", "1", "failed,", "1", "skipped"],
    ]


def test_json_tells_the_same() -> None:
    content = report_json(REPORT)
    assert content["passed"] is False
    assert content["counts"] == {"ok": 2, "warning": 1, "failed": 1, "skipped": 1}
    assert content["findings"][3] == {
        "subject": "clip + llama",
        "models": ["clip", "llama"],
        "check": "joins",
        "outcome": "failed",
        "text": "widths differ",
    }
    assert report_json(Report("s", "cpu", REPORT.findings[:3]))["passed"] is True
