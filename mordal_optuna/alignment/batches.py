"""Global batches: each rank's share of a batch, split into micro-batches.

Symbols:
    B   samples of a global batch
    W   ranks; rank w trains the w-th of W consecutive parts of a batch

Samples have the order of the alignment set. Within a share, samples of similar length are padded
together, or joined to one row without padding. The loss is a sum over all target tokens of the
global batch, so this grouping does not change the gradients, except for rounding.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np
import torch

from mordal_optuna.alignment.conversation import IGNORED, Encoded
from mordal_optuna.alignment.lengths import BLOCK, Lengths
from mordal_optuna.alignment.memory import parts
from mordal_optuna.alignment.usable import Checked
from mordal_optuna.errors import ConfigError, UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from mordal_optuna.alignment.conversation import Conversations
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.features import Prepared, VisionFeatures
    from mordal_optuna.alignment.memory import Batching, TokenBudget

# Number of shares that are prepared before they are needed.
_AHEAD = 3


class Batch(TypedDict):
    """Input of the model; sequences are padded on the right, or joined to one row.

    There is no attention mask: a token never attends to what is on its right, and padding is no
    target. Without a mask, flash kernels can be chosen, and nothing waits for a look at the mask.
    """

    input_ids: torch.Tensor  # samples x tokens, or 1 x tokens
    targets: torch.Tensor  # tokens to predict, one-dimensional
    places: torch.Tensor  # indices into the flattened input_ids, from which targets are predicted
    position_ids: NotRequired[torch.Tensor]  # shape of input_ids; only for one joined row
    features: NotRequired[list[torch.Tensor]]  # of each sample, images x patches x width
    image_places: NotRequired[torch.Tensor]  # indices into the flattened input_ids, of features


@dataclass(frozen=True)
class Share:
    """This rank's part of a global batch.

    Attributes:
        encoded: tokenised samples.
        prepared: pixels or cached features of the samples' images.
        targets: number of target tokens in the share.
    """

    encoded: list[Encoded]
    prepared: list[Prepared]
    targets: int


class Batches:
    """Prepares shares in background threads, ahead of the training."""

    def __init__(
        self,
        data: AlignmentSet,
        conversations: Conversations,
        vision: VisionFeatures,
        *,
        batch_size: int,
        rank: int,
        world: int,
        threads: int,
        lengths: Path | None = None,
    ) -> None:
        """Prepare shares.

        Args:
            data: alignment set.
            conversations: tokeniser of samples for the candidate.
            vision: features of images.
            batch_size: B, the number of samples of a global batch.
            rank: w, from 0.
            world: W, the number of ranks; must divide B.
            threads: number of threads, and of processes that count tokens; a stream is read by a
                single one.
            lengths: folder of the counts of tokens, see `Lengths`; None keeps none.

        Raises:
            ConfigError: if W does not divide B, or w is not below W.
        """
        if world < 1 or batch_size % world or not 0 <= rank < world:
            raise ConfigError(
                [
                    f"batch_size: rank {rank} of {world} ranks cannot have an equal share of "
                    f"{batch_size} samples; the number of ranks must divide the batch size"
                ]
            )
        self._data = data
        self._conversations = conversations
        self._vision = vision
        self._batch_size = batch_size
        self._rank = rank
        self._share = batch_size // world
        self._threads = threads if data.random_access else 1
        self._encoded: dict[int, Encoded] = {}
        self._unusable: dict[int, str] = {}
        self._encoding = Lock()
        self._world = world
        self._lengths = None
        if data.random_access and lengths:
            self._lengths = Lengths(data, conversations, lengths, threads=threads)

    def check(self, start: int, until: int) -> Checked:
        """Look for samples of a range that cannot be trained on, before any of them is trained on.

        A sample that cannot be trained on keeps its place in its batch, but gives no loss: so all
        candidates see the same samples at the same step. All ranks together look at all samples.

        Tokens are counted once for each tokenizer and template; only samples that are cut or
        refused are tokenised again. Without a folder of counts, and for a stream, each rank
        tokenises its samples of the range, and keeps them in memory.

        Args:
            start: position of the first sample, a multiple of B.
            until: position after the last sample.

        Raises:
            DataError: naming and showing the first sample that is refused.
        """
        if self._lengths:
            longest = self._counted(self._lengths, start, until)
        else:
            longest = 0
            for begin in range(start, until, self._batch_size):
                for index in self._positions(begin):
                    if index not in self._encoded:
                        self._encoded[index] = self._encode(index)
                    longest = max(longest, self._encoded[index].whole)
        return Checked(longest, {n: t for n, t in self._unusable.items() if start <= n < until})

    def _counted(self, lengths: Lengths, start: int, until: int) -> int:
        """Longest sample of this rank's blocks, in tokens; those that do not fit are encoded."""
        longest = 0
        blocks = range(start // BLOCK, -(-until // BLOCK))
        for block, counts in lengths.of(blocks[self._rank :: self._world]).items():
            first = max(start, block * BLOCK)
            seen = counts[first - block * BLOCK : until - block * BLOCK]
            fit = self._conversations.fit(seen)
            longest = max(longest, int(self._conversations.wholes(seen[fit]).max(initial=0)))
            for index in np.flatnonzero(~fit):
                longest = max(longest, self._encode(first + int(index)).whole)
        return longest

    def shares(self, start: int, until: int) -> Iterator[Share]:
        """Yield this rank's share of each global batch of a range, in order.

        Args:
            start: position of the first sample, a multiple of B; `check` was called for the range.
            until: position after the last sample.
        """
        starts = list(range(start, until, self._batch_size))
        with ThreadPoolExecutor(self._threads, "mordal-data") as pool:
            waiting: list[Future[Share]] = [pool.submit(self._make, s) for s in starts[:_AHEAD]]
            try:
                for number in range(len(starts)):
                    yield waiting.pop(0).result()
                    following = number + _AHEAD
                    if following < len(starts):
                        waiting.append(pool.submit(self._make, starts[following]))
            finally:
                for future in waiting:
                    future.cancel()

    def _encode(self, index: int) -> Encoded:
        sample = self._data.sample(index)
        try:
            with self._encoding:  # threads would only take turns
                return self._conversations.encode(sample)
        except UnusableError as error:
            self._unusable[index] = str(error)
            return Encoded.skipped(sample.images)

    def _positions(self, begin: int) -> range:
        first = begin + self._rank * self._share
        return range(first, first + self._share)

    def _make(self, begin: int) -> Share:
        positions = self._positions(begin)
        encoded = [
            self._encoded.pop(index) if index in self._encoded else self._encode(index)
            for index in positions
        ]
        targets = 0
        for one in encoded:
            _, labels = self._conversations.expand(one)
            targets += int((labels[1:] != IGNORED).sum())
        prepared = self._vision.prepare(positions, [one.images for one in encoded])
        return Share(encoded, prepared, targets)


def micro_batches(
    share: Share,
    features: Sequence[torch.Tensor],
    conversations: Conversations,
    *,
    budget: TokenBudget,
    batching: Batching,
    pad_id: int,
) -> Iterator[Batch]:
    """Split a share into micro-batches of samples of similar length.

    Args:
        share: this rank's part of a global batch.
        features: features of each sample's images, images x patches x width.
        conversations: tokeniser of samples for the candidate.
        budget: largest numbers of samples and tokens of a micro-batch.
        batching: `grouped` pads samples to rows of equal length, `packed` joins them to one row.
        pad_id: token that pads rows.
    """
    usable = [n for n, sample in enumerate(share.encoded) if sample.length]
    order = sorted(usable, key=lambda n: share.encoded[n].length)
    lengths = [share.encoded[n].length for n in order]
    for start, stop in parts(lengths, budget, batching):
        chosen = order[start:stop]
        expanded = [conversations.expand(share.encoded[n]) for n in chosen]
        batch = _packed(expanded) if batching == "packed" else _padded(expanded, pad_id)
        shown = [features[n] for n in chosen if len(features[n])]
        if shown:
            batch["features"] = shown
            batch["image_places"] = conversations.image_places(batch["input_ids"])
        yield batch


def samples_of(batch: Batch) -> int:
    """Number of samples of a micro-batch that is on the CPU.

    Args:
        batch: the micro-batch.
    """
    if "position_ids" in batch:
        return int((batch["position_ids"] == 0).sum())
    return len(batch["input_ids"])


def _padded(expanded: Sequence[tuple[np.ndarray, np.ndarray]], pad_id: int) -> Batch:
    shape = (len(expanded), max(len(ids) for ids, _ in expanded))
    input_ids = np.full(shape, pad_id)
    labels = np.full(shape, IGNORED)
    for row, (ids, wanted) in enumerate(expanded):
        input_ids[row, : len(ids)] = ids
        labels[row, : len(ids)] = wanted
    return _batch(input_ids, labels)


def _packed(expanded: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    input_ids = np.concatenate([ids for ids, _ in expanded])[None]
    position_ids = np.concatenate([np.arange(len(ids)) for ids, _ in expanded])[None]
    labels = np.concatenate([wanted for _, wanted in expanded])[None]
    labels[position_ids == 0] = IGNORED  # the token before it belongs to another sample
    batch = _batch(input_ids, labels)
    batch["position_ids"] = torch.from_numpy(position_ids)
    return batch


def _batch(input_ids: np.ndarray, labels: np.ndarray) -> Batch:
    """Target tokens and the places before them, computed on the CPU to avoid a device sync."""
    labels[:, 0] = IGNORED  # there is no token before it
    (places,) = np.nonzero(labels.reshape(-1) != IGNORED)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        targets=torch.from_numpy(labels.reshape(-1)[places]),
        places=torch.from_numpy(places - 1),
    )
