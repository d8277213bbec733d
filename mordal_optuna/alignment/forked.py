"""Work on many small items by forked processes, with results in order.

Reading records and rendering chat templates is Python's own work, which one thread at a time does.
The processes are those of torch's DataLoader: they share the memory of this one as it is when they
start, use no device, and end with the last result.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from mordal_optuna.errors import MordalError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

# Number of items from which on other processes are started.
_SEVERAL = 4
# Seconds without a result after which a process counts as stuck; an item takes a few at most.
_STUCK = 1800


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Generator[Result, None, None]:
    """Do the same work on all items.

    Args:
        work: function of one item; what it returns must be picklable. It must not use a device.
        items: the items.
        processes: largest number of processes, of which there are no more than cores; with one,
            or few items, this process does the work.

    Yields:
        The results, in the order of the items.

    Raises:
        MordalError: as the work raised it.
    """
    used = min(processes, len(items), len(os.sched_getaffinity(0)))
    several = used > 1 and len(items) >= _SEVERAL
    loader = DataLoader(
        _Work(work, items),
        batch_size=None,
        collate_fn=_same,
        num_workers=used if several else 0,
        worker_init_fn=_alone,
        multiprocessing_context="fork" if several else None,
        timeout=_STUCK if several else 0,
        # Of its own: the loader takes a number from it.
        generator=torch.Generator(),
    )
    for result in loader:
        if isinstance(result, MordalError):
            raise result
        yield result


class _Work(Dataset[Any], Generic[Item, Result]):
    """Results of the work, as a dataset."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self._work = work
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> Result | MordalError:
        """The result for an item; an error is returned, so that its type stays what it is."""
        try:
            return self._work(self._items[number])
        except MordalError as error:
            return error


def _same(item: Any) -> Any:  # noqa: ANN401 - neither batched nor made a tensor
    return item


def _alone(_: int) -> None:
    """In a forked process: the tokenizer's threads were those of the process before."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
