"""What a check finds, and how checks are run: an error of one never stops the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from mordal_optuna.errors import (
    ConfigError,
    DataError,
    EvaluationError,
    ModelError,
    TaskError,
    TrainingError,
)
from mordal_optuna.processes.outages import is_outage, outage, raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")

Outcome = Literal["ok", "warning", "failed", "skipped"]
# What a person must mend; any other error, such as that of a disk, ends the command.
_MEND = (ConfigError, DataError, EvaluationError, ModelError, TaskError, TrainingError)
# Characters of a text that a sentence shows.
_SHOWN = 60


@dataclass(frozen=True)
class Verdict:
    """What one check has found.

    Attributes:
        outcome: `ok`; `warning`, which may be as it should; `failed`, which a person must mend; or
            `skipped`.
        text: one sentence with the numbers.
    """

    outcome: Outcome
    text: str


def ok(text: str) -> Verdict:
    """A check that found nothing wrong."""
    return Verdict("ok", text)


def warning(text: str) -> Verdict:
    """A check that found what may be as it should."""
    return Verdict("warning", text)


def failed(text: str) -> Verdict:
    """A check that found what a person must mend."""
    return Verdict("failed", text)


def skipped(text: str) -> Verdict:
    """A check that could not be done."""
    return Verdict("skipped", text)


@dataclass(frozen=True)
class Check(Generic[T]):
    """A check of something that is open.

    Attributes:
        name: name of the check in tables.
        look: function that makes the check.
    """

    name: str
    look: Callable[[T], Verdict]


@dataclass(frozen=True)
class Finding:
    """What a check has found, and of what.

    Attributes:
        subject: name of a model or of a task, `ENCODER + LLM`, or `study`.
        check: name of the check.
        verdict: what it has found.
        models: names of the models that the subject consists of; empty for none.
    """

    subject: str
    check: str
    verdict: Verdict
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All findings about a study.

    Attributes:
        study: name of the study.
        device: device on which the checks were made.
        findings: the findings, in the order of the checks.
    """

    study: str
    device: str
    findings: tuple[Finding, ...]

    def count(self, outcome: Outcome) -> int:
        """Number of findings with an outcome."""
        return sum(one.verdict.outcome == outcome for one in self.findings)


class Notebook:
    """Collects findings while checks are made."""

    def __init__(self) -> None:
        """Start with no findings."""
        self.findings: list[Finding] = []

    def note(self, subject: str, check: str, verdict: Verdict, models: Sequence[str] = ()) -> None:
        """Write a finding down.

        Args:
            subject: what was checked.
            check: name of the check.
            verdict: what it has found.
            models: names of the models that the subject consists of.
        """
        self.findings.append(Finding(subject, check, verdict, tuple(models)))

    def opened(
        self,
        subject: str,
        check: str,
        work: Callable[[], tuple[T, Verdict]],
        models: Sequence[str] = (),
    ) -> T | None:
        """Open something; whether that is possible is a finding.

        Args:
            subject: what is opened.
            check: name of the check.
            work: opens it, and says what it is.
            models: names of the models that the subject consists of.

        Returns:
            What was opened; None if that was not possible.
        """
        found: list[T] = []

        def look(_: None) -> Verdict:
            thing, verdict = work()
            found.append(thing)
            return verdict

        self.checked(subject, [Check(check, look)], None, models)
        return found[0] if found else None

    def checked(
        self, subject: str, checks: Iterable[Check[T]], thing: T, models: Sequence[str] = ()
    ) -> None:
        """Make checks; errors that a person must mend are findings as well.

        Args:
            subject: what is checked.
            checks: the checks, in order.
            thing: what is open.
            models: names of the models that the subject consists of.
        """
        for check in checks:
            self.note(subject, check.name, _verdict(subject, check, thing), models)

    def skipped(
        self, subject: str, checks: Iterable[Check[T]], reason: str, models: Sequence[str] = ()
    ) -> None:
        """Write down that checks could not be made.

        Args:
            subject: what would have been checked.
            checks: the checks.
            reason: why they could not be made.
            models: names of the models that the subject consists of.
        """
        for check in checks:
            self.note(subject, check.name, skipped(reason), models)


def shown(text: str) -> str:
    """A text in quotes, shortened.

    Args:
        text: any text.
    """
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _verdict(subject: str, check: Check[T], thing: T) -> Verdict:
    try:
        with raised_as(lambda reason: ModelError(subject, reason)):
            return check.look(thing)
    except _MEND as error:
        if is_outage(error):
            raise outage(error) from error
        return failed(str(error).removeprefix(f"model {subject!r}: "))
