"""How a command ends: the sentence and the exit status of every error that reaches the top.

    0   done
    1   the run failed, or the program has a fault; the latter keeps its trace
    2   bad input: what a person must mend, such as the study file, models, data or tasks
    75  try the same command again: an outage, a place in use, a server that is away
    130 interrupted

Errors of this package are sentences already. Those of the operating system, databases, trackers
and YAML become one here, where nothing nearer to their cause has made one. `--debug` shows the
trace of any error.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, cast

import typer

from mordal_optuna.errors import (
    BusyError,
    ConfigError,
    DataError,
    GridError,
    InfrastructureError,
    InputsChangedError,
    ModelError,
    MordalError,
    Preempted,
    ProcessEndedError,
    StoreError,
    StudyMismatchError,
    TaskError,
    UnreachableStorageError,
)
from mordal_optuna.processes.outages import described, is_outage, outage

FAILED, MEND, AGAIN = 1, 2, Preempted.STATUS
_AGAIN = (
    *(BusyError, InfrastructureError, ProcessEndedError, StoreError),
    UnreachableStorageError,
)
_MEND = (
    *(ConfigError, DataError, GridError, InputsChangedError, ModelError, StudyMismatchError),
    TaskError,
)
_DATABASES = {"sqlalchemy", "optuna", "sqlite3", "psycopg", "psycopg2", "pymysql"}
_TRACKERS = {"wandb", "trackio", "mlflow", "swanlab", "comet_ml", "aim", "clearml", "dvclive"}
_REPORT = (
    "this is a fault of mordal-optuna, not of your input; please report it, with the lines above"
)


@dataclass
class Call:
    """A call of `mordal`.

    Attributes:
        command: name of its command; None before it is known.
        debug: whether the trace of an error is shown.
    """

    command: str | None = None
    debug: bool = False


def ended_by(error: Exception, call: Call) -> int:
    """Print one sentence about an error, and its trace if that is wanted or the program is wrong.

    Args:
        error: what ended the command.
        call: the command and its global options.

    Returns:
        The exit status.
    """
    if isinstance(error, typer.Abort):  # the end of the input of a question
        typer.echo("\nmordal: interrupted", err=True)
        return 130
    found = _usage(error) or _ending(error)
    if call.debug or found is None:
        typer.echo("".join(traceback.format_exception(error)), err=True)
    if found is None:
        typer.echo(f"mordal: {_REPORT} ({described(error)})", err=True)
        return FAILED
    sentence, status = found
    # What a worker cannot do, another try of it cannot either.
    if status == FAILED and call.command == "worker":
        status = MEND
    typer.echo(f"mordal: {sentence}", err=True)
    return status


def _ending(error: Exception) -> tuple[str, int] | None:
    """The sentence and the status; None for an error of the program."""
    if isinstance(error, StoreError) and error.mend:
        return str(error), MEND
    if isinstance(error, MordalError):
        again, mend = isinstance(error, _AGAIN), isinstance(error, _MEND)
        return str(error), AGAIN if again else MEND if mend else FAILED
    if is_outage(error):
        return f"{outage(error)}; run the same command again to continue", AGAIN
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if packages & _DATABASES:  # its text may hold a password
        kind = type(getattr(error, "orig", None) or error).__name__
        return (
            f"the study's database refused what was asked ({kind}); it must be one that this "
            "version of Optuna made and that you may write to; `mordal --debug` shows more",
            FAILED,
        )
    if packages & _TRACKERS:
        tracker = sorted(packages & _TRACKERS)[0]
        return f"runtime.trackers: {tracker} cannot be used ({described(error)})", MEND
    if "yaml" in packages:
        return f"a YAML file cannot be read: {' '.join(str(error).split())}", MEND
    if isinstance(error, OSError):
        return _of_system(error), MEND
    return None


def _of_system(error: OSError) -> str:
    """A file that cannot be read or written, by its name."""
    reason = error.strerror or described(error)
    if error.filename is None:
        return f"{reason}; `mordal --debug` shows where"
    return f"{str(error.filename)!r} cannot be used: {reason.lower()}; correct its path or rights"


def _usage(error: Exception) -> tuple[str, int] | None:
    """What is wrong with a command line, as typer has found it; None for another error."""
    if not isinstance(error, typer.TyperException):
        return None
    usage = cast("typer.BadParameter", error)
    context = getattr(usage, "ctx", None)
    if "\n" in usage.format_message():  # the help, where a command is missing
        return usage.format_message(), usage.exit_code
    sentence = usage.format_message().rstrip(".")
    problems: list[Any] = getattr(usage.__cause__, "errors", list)()
    if problems and "input" in problems[0]:
        sentence = sentence.replace(": ", f": got {problems[0]['input']!r}; ", 1)
    command = context.command_path if context else "mordal"
    return f"{sentence}; see `{command} --help`", usage.exit_code
