"""Global batches: this process's share of them, cut to micro-batches.

Symbols:
    B   samples of a global batch
    W   processes; process w trains the w-th of W consecutive parts of it

The order of samples is the alignment set's. Within a share, samples of like length are put
together, or joined without padding; since the loss is a sum over all target tokens of the global
batch, that changes what is padded, not what is learned.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
import torch

from mordal_optuna.alignment.conversation import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from mordal_optuna.alignment.conversation import Conversations, Encoded
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.features import Prepared, VisionFeatures

Batching = Literal["grouped", "packed"]
# Global batches that are made ready before they are needed.
_AHEAD = 3


class Batch(TypedDict):
    """What the model is fed; sequences are padded on the right, or joined in one row."""

    input_ids: torch.Tensor  # samples x tokens, or 1 x tokens
    targets: torch.Tensor  # tokens to be predicted, one-dimensional
    places: torch.Tensor  # where each is predicted: places in the flattened input_ids
    attention_mask: NotRequired[torch.Tensor]  # as input_ids; only where rows are padded
    position_ids: NotRequired[torch.Tensor]  # as input_ids; only in one row
    features: NotRequired[torch.Tensor]  # images x patches x width


@dataclass(frozen=True)
class Share:
    """This process's part of a global batch.

    Attributes:
        encoded: its samples.
        prepared: pixels or cached features of its images.
        targets: target tokens in it.
    """

    encoded: list[Encoded]
    prepared: list[Prepared]
    targets: int


class Batches:
    """Makes shares ready in threads of its own, some ahead of the training."""

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
    ) -> None:
        """Prepare shares.

        Args:
            data: the samples.
            conversations: encodes them for the candidate.
            vision: prepares their images.
            batch_size: B.
            rank: w.
            world: W; divides B.
            threads: that prepare; a stream is read by one.
        """
        self._data = data
        self._conversations = conversations
        self._vision = vision
        self._batch_size = batch_size
        self._rank = rank
        self._share = batch_size // world
        self._threads = threads if data.random_access else 1
        self._encoded: dict[int, Encoded] = {}

    def check(self, start: int, until: int) -> None:
        """Encode this process's samples of a range, before any is trained on.

        Raises:
            DataError: naming and showing the first that cannot be trained on.
        """
        for begin in range(start, until, self._batch_size):
            for index in self._positions(begin):
                if index not in self._encoded:
                    sample = self._data.sample(index)
                    self._encoded[index] = self._conversations.encode(sample)

    def shares(self, start: int, until: int) -> Iterator[Share]:
        """The shares of the global batches from `start` up to `until`, in order."""
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

    def _positions(self, begin: int) -> range:
        first = begin + self._rank * self._share
        return range(first, first + self._share)

    def _make(self, begin: int) -> Share:
        positions = self._positions(begin)
        encoded = [self._encoded.pop(index) for index in positions]
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
    size: int,
    batching: Batching,
    pad_id: int,
) -> Iterator[Batch]:
    """A share as micro-batches of at most `size` samples, those of like length together.

    Args:
        share: the samples.
        features: of each sample's images: images x patches x width.
        conversations: expands them.
        size: samples of a micro-batch.
        batching: padded rows, or one row.
        pad_id: fills padded rows; never looked at.
    """
    order = sorted(range(len(share.encoded)), key=lambda n: share.encoded[n].length)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        expanded = [conversations.expand(share.encoded[n]) for n in chosen]
        batch = _packed(expanded) if batching == "packed" else _padded(expanded, pad_id)
        shown = [features[n] for n in chosen if len(features[n])]
        if shown:
            batch["features"] = torch.cat(shown)
        yield batch


def _padded(expanded: Sequence[tuple[np.ndarray, np.ndarray]], pad_id: int) -> Batch:
    shape = (len(expanded), max(len(ids) for ids, _ in expanded))
    input_ids = np.full(shape, pad_id)
    labels = np.full(shape, IGNORED)
    attention_mask = np.zeros(shape, dtype=np.int64)
    for row, (ids, wanted) in enumerate(expanded):
        input_ids[row, : len(ids)] = ids
        labels[row, : len(ids)] = wanted
        attention_mask[row, : len(ids)] = 1
    batch = _batch(input_ids, labels)
    batch["attention_mask"] = torch.from_numpy(attention_mask)
    return batch


def _packed(expanded: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    input_ids = np.concatenate([ids for ids, _ in expanded])[None]
    position_ids = np.concatenate([np.arange(len(ids)) for ids, _ in expanded])[None]
    labels = np.concatenate([wanted for _, wanted in expanded])[None]
    labels[position_ids == 0] = IGNORED  # what stands before belongs to another sample
    batch = _batch(input_ids, labels)
    batch["position_ids"] = torch.from_numpy(position_ids)
    return batch


def _batch(input_ids: np.ndarray, labels: np.ndarray) -> Batch:
    """Trained tokens and the places before them; found here, so that no device is waited for."""
    labels[:, 0] = IGNORED  # nothing stands before it
    (places,) = np.nonzero(labels.reshape(-1) != IGNORED)
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        targets=torch.from_numpy(labels.reshape(-1)[places]),
        places=torch.from_numpy(places - 1),
    )
