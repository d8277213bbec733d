"""Reports about small studies, and what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mordal_optuna.config import parse_study
from mordal_optuna.doctor.examine import examine
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.doctor.findings import Report, Verdict


def report_of(content: dict[str, Any], only: Sequence[str] = ()) -> Report:
    """The report about a study of this content; its models need not exist."""
    return examine(parse_study(content, places=False), Silent(), only)


def verdict(report: Report, subject: str, check: str) -> Verdict:
    """What one check has found."""
    (found,) = [f.verdict for f in report.findings if (f.subject, f.check) == (subject, check)]
    return found


def failures(report: Report) -> dict[tuple[str, str], str]:
    """What failed, by subject and check."""
    return {
        (one.subject, one.check): one.verdict.text
        for one in report.findings
        if one.verdict.outcome == "failed"
    }
