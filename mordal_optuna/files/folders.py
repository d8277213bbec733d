"""Folders that a command writes to: made and tried before anything is spent."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING

from mordal_optuna.errors import ConfigError
from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from pathlib import Path


def make_folder(folder: Path, key: str = "workdir") -> None:
    """Make a folder unless it is there, and try to write to it.

    Args:
        folder: the folder; missing parents are made.
        key: key of the study file or option that names it, which begins the sentence.

    Raises:
        ConfigError: if it cannot be made, or not be written to.
        OSError: if the disk is full or failing, which may pass.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if is_outage(error) and error.errno != errno.EROFS:
            raise
        shown = str(folder)
        name = repr(shown if len(shown) <= 200 else f"{shown[:200]}...")
        raise ConfigError(
            [
                f"{key}: {name} cannot be made or written to ({error.strerror}); it must be a "
                "folder you may write to"
            ]
        ) from error
