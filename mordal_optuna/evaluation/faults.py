"""Faults of a task's own YAML and Python code, as one sentence with the place of the fault."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from tenacity import RetryError

from mordal_optuna.config.yaml_file import yaml_fault
from mordal_optuna.errors import MordalError, TaskError
from mordal_optuna.processes.outages import described, is_outage

if TYPE_CHECKING:
    from collections.abc import Iterator

# Frames in these are not of a task's own code.
_LIBRARIES = ("site-packages", "dist-packages", "lib/python", "mordal_optuna")
# Name of the hub's error in offline mode, which `datasets` shows in the text of its own.
_OFFLINE = "OfflineModeIsEnabled"


@contextmanager
def task_faults(task: str, what: str) -> Iterator[None]:
    """Turn whatever a task's YAML or code raises into one sentence; the original is the cause.

    A task's code may raise anything. An outage stays one, but not that nothing can be looked up
    because the hub's libraries are told to be offline.

    Args:
        task: name of the task.
        what: what failed, such as "`doc_to_visual` fails".

    Raises:
        TaskError: for any error that is no outage and not of this package.
    """
    try:
        yield
    except MordalError:
        raise
    except Exception as error:
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        assert cause is not None
        if is_outage(cause) and _OFFLINE not in str(cause):
            raise cause from error
        raise TaskError(task, f"{what} ({fault(cause)})") from cause


def fault(error: BaseException) -> str:
    """An error's class and text, and the place in the task's own code that it comes from.

    Args:
        error: what the code or a YAML raised.
    """
    if isinstance(error, yaml.YAMLError):
        return yaml_fault(error)
    if isinstance(error, SyntaxError):
        place = f"{Path(error.filename or '?').name}, line {error.lineno}"
        return f"{type(error).__name__} in {place}: {error.msg}"
    if isinstance(error, ImportError) and error.__cause__:
        return f"{described(error)}: {described(error.__cause__)}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(f.filename)]
    if not frames:
        return described(error)
    frame = frames[-1]
    inside = f"`{frame.name}`, " if frame.name != "<module>" else ""
    return f"{described(error)}, in {inside}{Path(frame.filename).name}, line {frame.lineno}"


def _is_own(filename: str) -> bool:
    return filename.endswith(".py") and not any(part in filename for part in _LIBRARIES)
