"""What a launcher (`accelerate launch`, `torchrun`) tells its processes; loads no torch."""

from __future__ import annotations

import os


def launched() -> int:
    """How many processes the launcher started; 1 where there was none."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """This process's number among them; 0 leads."""
    return int(os.environ.get("RANK", "0"))
