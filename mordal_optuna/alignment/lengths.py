"""Numbers of tokens of an alignment set's samples: counted once for each tokenizer and template.

An encoder decides only how many tokens each image takes, and `max_length` only what is cut. So the
tokens of a sample with one placeholder for each image are counted once, by several processes, and
kept on disk in blocks of consecutive samples. A second candidate with the LLM, a later rung and a
restart read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.alignment.forked import in_processes
from mordal_optuna.files.tensors import Stored, TensorStore, address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.conversation import Conversations
    from mordal_optuna.alignment.data import AlignmentSet

# Samples of a block, which is one file, and samples that a process renders at once.
BLOCK = 512
_RENDERED = 64
# Hexadecimal digits of the address: a folder's name.
_DIGITS = 24


class Lengths:
    """Counts of tokens and images, by position in the alignment set."""

    def __init__(
        self,
        data: AlignmentSet,
        conversations: Conversations,
        folder: Path | None,
        *,
        threads: int,
    ) -> None:
        """Open the counts for a tokenizer and chat template.

        Args:
            data: alignment set with random access.
            conversations: tokeniser of its samples.
            folder: folder of all counts; None keeps none.
            threads: number of processes that count.
        """
        self._data = data
        self._conversations = conversations
        self._threads = threads
        self._files: TensorStore | None = None
        identity = conversations.identity() if folder else None
        if folder and identity:
            whole = {**identity, "data": data.digest, "block": BLOCK}
            self._files = TensorStore(folder / address(whole, _DIGITS))

    def of(self, blocks: Sequence[int]) -> dict[int, np.ndarray]:
        """Counts of whole blocks, read or counted.

        Args:
            blocks: numbers of the blocks; block b begins at position b * BLOCK.

        Returns:
            For each block an array, samples x 2: tokens with one for each image, and images; -1
            for tokens of a sample that cannot be trained on.

        Raises:
            DataError: if a record cannot be read.
        """
        found: dict[int, np.ndarray] = {}
        for block in blocks:
            stored = self._files.get(f"{block:08d}") if self._files else None
            if stored:
                found[block] = stored.tensors["counts"].numpy()
        missing = [block for block in blocks if block not in found]
        counted = in_processes(self._count, missing, self._threads)
        for block, counts in zip(missing, counted, strict=True):
            found[block] = counts
            if self._files:
                stored = Stored({"counts": torch.from_numpy(counts)})
                self._files.put(f"{block:08d}", stored)
        return found

    def _count(self, block: int) -> np.ndarray:
        end = min((block + 1) * BLOCK, len(self._data))
        counts: list[tuple[int, int]] = []
        for start in range(block * BLOCK, end, _RENDERED):
            positions = range(start, min(start + _RENDERED, end))
            samples = [self._data.sample(position) for position in positions]
            counts += self._conversations.count(samples)
        return np.array(counts, dtype=np.int32).reshape(-1, 2)
