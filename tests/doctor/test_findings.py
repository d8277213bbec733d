"""Findings: an error of one check stops no other; only outages end the command."""

from __future__ import annotations

import errno

import pytest

from mordal_optuna.doctor.findings import Check, Notebook, Report, ok, shown
from mordal_optuna.errors import InfrastructureError, ModelError, TaskError


def raising(error: Exception) -> Check[object]:
    def look(_: object) -> None:
        raise error

    return Check("raises", look)  # type: ignore[arg-type]


def test_an_error_is_a_finding_and_the_next_check_is_made() -> None:
    """An error of this package without its subject, which the table names, or of a library."""
    notes = Notebook()
    checks = [
        raising(ModelError("clip", "is broken")),
        raising(RuntimeError("shapes differ")),
        Check("next", lambda _: ok("fine")),
    ]
    notes.checked("clip", checks, None, ["clip"])
    assert [(f.verdict.outcome, f.verdict.text) for f in notes.findings] == [
        ("failed", "is broken"),
        ("failed", "RuntimeError: shapes differ"),
        ("ok", "fine"),
    ]
    assert {f.models for f in notes.findings} == {("clip",)}


@pytest.mark.parametrize(
    "error",
    [
        TaskError("t", "its data are away"),
        OSError(errno.EIO, "input/output error"),
        RuntimeError("NCCL error 1"),
    ],
)
def test_an_outage_ends_the_checks(error: Exception) -> None:
    """It says nothing about the model; the same command may find something else later."""
    if isinstance(error, TaskError):
        error.__cause__ = ConnectionError("reset")
    with pytest.raises((InfrastructureError, OSError), match="away|input|NCCL"):
        Notebook().checked("clip", [raising(error)], None)


def test_what_cannot_be_opened_is_none() -> None:
    notes = Notebook()

    def work() -> tuple[str, object]:
        raise ModelError("clip", "is missing")

    assert notes.opened("clip", "loads", work) is None  # type: ignore[arg-type]
    assert notes.opened("llama", "loads", lambda: ("model", ok("7 G parameters"))) == "model"
    notes.skipped("clip", [Check("layer", lambda _: ok(""))], "it does not load")
    assert [(f.check, f.verdict.outcome) for f in notes.findings] == [
        ("loads", "failed"),
        ("loads", "ok"),
        ("layer", "skipped"),
    ]
    report = Report("s", "cpu", tuple(notes.findings))
    assert [report.count(o) for o in ("ok", "warning", "failed", "skipped")] == [1, 0, 1, 1]


def test_long_texts_are_shortened() -> None:
    assert shown("red") == "'red'"
    assert shown("x" * 100) == repr("x" * 60 + "…")
