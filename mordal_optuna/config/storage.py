"""The address of a study's database."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Environment variable with the address of the database, for study files without `storage`.
STORAGE_VARIABLE = "MORDAL_STORAGE"


def database_address(storage: str | None, workdir: Path) -> tuple[str, str]:
    """Address of a study's database, and where it was given.

    As with Optuna's option `--storage` and its variable OPTUNA_STORAGE, what is given explicitly
    takes precedence over the environment.

    Args:
        storage: address in the study file; None without one.
        workdir: the study's work folder, for the default.

    Returns:
        The SQLAlchemy address; the key or variable that it came from, for messages.
    """
    given = os.environ.get(STORAGE_VARIABLE)
    if storage or not given:
        return storage or f"sqlite:///{(workdir / 'study.db').as_posix()}", "storage"
    return given, STORAGE_VARIABLE
