"""Who works where: a name for this process, and whether the process of a name has ended."""

from __future__ import annotations

import os
import platform
import uuid
from functools import cache
from pathlib import Path


def owner_name() -> str:
    """A new name for a part of this process that owns something: MACHINE/PROCESS/UNIQUE."""
    return f"{_machine()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


def has_ended(owner: str) -> bool:
    """Whether an owner is known to have ended: a process of this machine that is no more.

    Args:
        owner: as `owner_name` gave it, on any machine. Of other machines nothing is known.
    """
    machine, process, _ = owner.split("/")
    if machine != _machine() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it lives, and belongs to another user
    return _is_zombie(int(process))


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and its parent has not asked how; False where none can tell."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The state follows the name, which is in brackets and may hold anything.
    return status.rpartition(")")[2].split()[0] in ("Z", "X")


@cache
def _machine() -> str:
    """Names the set of processes in which a process number means the same.

    On Linux that is a boot and a namespace of process numbers, since containers have their own.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.is_file() and space.is_symlink():
        return f"{boot.read_text(encoding='utf-8').strip()}-{space.readlink().name}"
    return f"{platform.node()}-{uuid.getnode():012x}"
