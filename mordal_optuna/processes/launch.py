"""What a launcher (`accelerate launch`, `torchrun`) says in the environment; loads no torch."""

from __future__ import annotations

import os


def launched_world_size() -> int:
    """Number of processes that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """This process's rank among them, from 0; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))
