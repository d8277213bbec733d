"""Numbers of tokens of an alignment set's samples: counted once for each tokenizer and template.

An encoder decides only how many tokens each image takes, and `max_length` only what is cut. So the
tokens of a sample with one placeholder for each image are counted once, by several processes, and
kept on disk in blocks of consecutive samples. A second candidate with the LLM, a later rung and a
restart read them. Processes, since the chat template is rendered in Python, which one thread at a
time runs; they are forked, as those of torch's DataLoader, and send back nothing but the counts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mordal_optuna.errors import MordalError
from mordal_optuna.files.tensors import Stored, TensorStore, address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.conversation import Conversations
    from mordal_optuna.alignment.data import AlignmentSet

# Samples of a block, which is one file, and samples that a process renders at once.
BLOCK = 512
_RENDERED = 64
# Blocks from which on other processes are started.
_SEVERAL = 4
# Seconds without a block after which a process counts as stuck; a block takes a few.
_STUCK = 1800
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
        counter = _Counter(self._data, self._conversations, missing)
        several = self._threads > 1 and len(missing) >= _SEVERAL
        counted = DataLoader(
            counter,
            batch_size=None,
            collate_fn=_same,
            worker_init_fn=_alone,
            num_workers=min(self._threads, len(missing)) if several else 0,
            multiprocessing_context="fork" if several else None,
            timeout=_STUCK if several else 0,
            # Of its own: the loader takes a number from it.
            generator=torch.Generator(),
        )
        for block, counts in zip(missing, counted, strict=True):
            if isinstance(counts, MordalError):
                raise counts
            found[block] = counts
            if self._files:
                stored = Stored({"counts": torch.from_numpy(counts)})
                self._files.put(f"{block:08d}", stored)
        return found


class _Counter(torch.utils.data.Dataset[np.ndarray | MordalError]):
    """Counts of blocks, as a dataset whose items are blocks."""

    def __init__(
        self, data: AlignmentSet, conversations: Conversations, blocks: Sequence[int]
    ) -> None:
        self._data = data
        self._conversations = conversations
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> np.ndarray | MordalError:
        """Counts of a block; an error is returned, so that its type stays what it is."""
        begin = self._blocks[number] * BLOCK
        end = min(begin + BLOCK, len(self._data))
        counts: list[tuple[int, int]] = []
        try:
            for start in range(begin, end, _RENDERED):
                positions = range(start, min(start + _RENDERED, end))
                samples = [self._data.sample(position) for position in positions]
                counts += self._conversations.count(samples)
        except MordalError as error:
            return error
        return np.array(counts, dtype=np.int32).reshape(-1, 2)


def _same(item: Any) -> Any:  # noqa: ANN401 - neither batched nor made a tensor
    return item


def _alone(_: int) -> None:
    """In a forked process: the tokenizer's threads were those of the process before."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
