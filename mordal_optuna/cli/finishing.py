"""`on_finish`: the command of a study file that is run when the study has ended or failed."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import typer

from mordal_optuna.errors import FailedSearchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mordal_optuna.config import StudySettings
    from mordal_optuna.study.result import StudyResult

# The descriptor of standard error, also where a test has replaced `sys.stderr`.
_STDERR = 2

Outcome = Literal["ended", "failed"]


@contextmanager
def telling_failure(settings: StudySettings) -> Iterator[None]:
    """Run the command of a study whose search fails inside; the error goes on.

    A search fails if no candidate can be trained, or if candidates fail one after the other. All
    other errors, Ctrl-C and SIGTERM run no command: the same command line continues the study.

    Args:
        settings: the study file's settings.

    Raises:
        FailedSearchError: the failure.
    """
    try:
        yield
    except FailedSearchError as error:
        run_on_finish(settings, "failed", str(error))
        raise


def run_on_finish(
    settings: StudySettings,
    outcome: Outcome,
    reason: str,
    *,
    result: StudyResult | None = None,
    report: Path | None = None,
) -> None:
    """Run the command of a study file, once for each end of the study.

    It is marked as run before it is started, so that no worker runs it again, whatever happens.
    What it prints goes to standard error. If it cannot be started or fails, that is one sentence;
    neither the result nor this process's exit status changes.

    Args:
        settings: the study file's settings; without `on_finish`, nothing is done.
        outcome: how the study came to its end.
        reason: why, in words.
        result: the result; None if the search failed.
        report: the HTML report; None without one.

    Raises:
        StoreError: if the database cannot be used.
    """
    command = settings.on_finish
    if command is None or not _is_first(settings, outcome, reason):
        return
    told = {
        "MORDAL_STUDY": settings.study,
        "MORDAL_STATUS": outcome,
        "MORDAL_REASON": reason,
        "MORDAL_WINNER": str(result.winner.candidate) if result else "",
        "MORDAL_SCORE": f"{result.measured.score:.6f}" if result else "",
        "MORDAL_DEVICE_SECONDS": f"{result.costs.total:.1f}" if result else "",
        "MORDAL_WORKDIR": str(settings.workdir.resolve()),
        "MORDAL_REPORT": str(report.resolve()) if report else "",
    }
    problem = _run(command, told)
    if problem:
        typer.echo(f"mordal: on_finish: {problem}; the study's result is not affected", err=True)


def _run(command: str | tuple[str, ...], told: dict[str, str]) -> str | None:
    """Run a command and wait for it; what went wrong, or None."""
    sys.stderr.flush()
    arguments = command if isinstance(command, str) else list(command)
    try:
        done = subprocess.run(  # noqa: S603 - the person's own command
            arguments,
            shell=isinstance(command, str),
            env={**os.environ, **told},
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            check=False,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"{arguments!r} cannot be started ({reason})"
    if done.returncode < 0:
        return f"{arguments!r} was ended by signal {-done.returncode}"
    return f"{arguments!r} ended with exit status {done.returncode}" if done.returncode else None


def _is_first(settings: StudySettings, outcome: Outcome, reason: str) -> bool:
    """Whether no process has run the command for this end; marks it as run."""
    from mordal_optuna.driver import open_study
    from mordal_optuna.search.attributes import FINISHED
    from mordal_optuna.study.turns import Turns

    with Turns(settings.storage_url(), settings.study).wait_for("on_finish"):
        study = open_study(settings)
        end = [outcome, reason, len(study.get_trials(deepcopy=False))]
        if study.user_attrs.get(FINISHED) == end:
            return False
        study.set_user_attr(FINISHED, end)
        return True
