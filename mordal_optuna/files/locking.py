"""A lock on a folder, held by one process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mordal_optuna.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that run or export a study in it.

    Args:
        folder: existing folder.

    Raises:
        BusyError: if another process has locked it.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"in {str(folder)!r}", "wait for it to end, or give this study another workdir"
        ) from error
    try:
        yield
    finally:
        lock.release()
