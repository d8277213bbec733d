"""How many documents are answered at once: what was asked for, as far as memory allows.

A size that does not fit is halved. It is tried again once a number of documents has been answered
at the smaller size, as documents come longest first; after each further failure that number
doubles. With the size `auto`, a CUDA device starts with 16 and doubles the size while less than
0.45 of its memory was in use.
"""

from __future__ import annotations

import torch

# Where `auto` starts and ends on a CUDA device, and its only size elsewhere.
_FIRST, _MOST, _ELSEWHERE = 16, 512, 32
# Largest share of the memory in use before the size is doubled.
_SHARE = 0.45
# Batches at the smaller size before a size that did not fit is tried again.
_PATIENCE = 8


class BatchSize:
    """Size of the next batch of a task."""

    def __init__(self, asked: int | None, device: torch.device) -> None:
        """Begin with the size that was asked for.

        Args:
            asked: largest number of documents at once; None to find it from the memory.
            device: device of the model.
        """
        self._device = device
        self._measures = asked is None and device.type == "cuda"
        self._most = asked or (_MOST if self._measures else _ELSEWHERE)
        self.now = _FIRST if self._measures else self._most
        self._patience = _PATIENCE

    def portion(self, left: int) -> int:
        """Number of documents to answer before `succeed`.

        Args:
            left: number of documents that are left.
        """
        if self.now >= self._most:
            return left
        return min(left, self.now * (2 if self._measures else self._patience))

    def succeed(self) -> None:
        """Double the size if there is room, after a portion has been answered."""
        if self._measures and self._used() >= _SHARE:
            self._most = self.now
        self.now = min(2 * self.now, self._most)

    def fail(self) -> None:
        """Halve the size, which did not fit into memory."""
        if self._measures:  # what has not fitted is not tried again
            self._most = max(1, self.now // 2)
        self.now = max(1, self.now // 2)
        self._patience *= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _used(self) -> float:
        """Largest share of the device's memory that was in use."""
        _, total = torch.cuda.mem_get_info(self._device)
        return torch.cuda.max_memory_allocated(self._device) / total
