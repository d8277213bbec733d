"""Names for processes that own something, and whether the process of a name has ended."""

from __future__ import annotations

import os
import platform
import uuid
from functools import cache
from pathlib import Path


def owner_name() -> str:
    """A new unique name for an object of this process that owns something.

    Returns:
        MACHINE/PROCESS/UNIQUE: machine identifier, process number, 12 hexadecimal digits.
    """
    return f"{_machine()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


def has_ended(owner: str) -> bool:
    """Whether the owning process is known to have ended.

    Args:
        owner: name from `owner_name`, of any machine. For another machine the answer is False,
            since its processes cannot be seen from here.
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
    """Whether a process has ended and was not waited for; False if /proc does not show it."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The state follows the process's name, which is in brackets and may hold any character.
    return status.rpartition(")")[2].split()[0] in ("Z", "X")


@cache
def _machine() -> str:
    """Identifier of the set of processes in which a process number is unique.

    On Linux that is a boot and a namespace of process numbers, since each container has its own
    namespace.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.is_file() and space.is_symlink():
        return f"{boot.read_text(encoding='utf-8').strip()}-{space.readlink().name}"
    return f"{platform.node()}-{uuid.getnode():012x}"
