"""Atomic writes: a file or folder gets its name only once its content is on the disk."""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def atomic_write(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file or a folder under a temporary name, then rename it.

    Several processes may write the same target; the last one wins. On an error the temporary file
    or folder is removed and the target stays as it was.

    Args:
        target: path of the file, which is replaced if it exists, or of a folder, which must not
            exist or must be empty. Missing parent folders are made.
        durable: whether a file is fsynced before it is renamed. A cache whose readers treat a
            broken file as absent does without, which is faster.

    Yields:
        The temporary path, beside the target. Nothing exists there yet.

    Raises:
        OSError: if the disk is full, or the target is a folder with content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        yield temporary
        if temporary.is_dir() or not durable:
            temporary.replace(target)
        else:
            rename_durably(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file and replace the target; fsync before rename: no crash leaves an empty file.

    Args:
        source: path of a complete file on the same file system as the target.
        target: new path of the file.

    Raises:
        OSError: if the file cannot be renamed.
    """
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
