"""Documents prepared by threads ahead of the device, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

In = TypeVar("In")
Out = TypeVar("Out")
# More threads than these wait for Python's lock: decoding and resizing alone run side by side.
_MOST_THREADS = 8


def threads(processes: int) -> int:
    """Number of preparing threads for one of several processes on this machine.

    Args:
        processes: number of processes that prepare documents at the same time.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_THREADS, (cores or 1) // processes))


@contextmanager
def prepared_ahead(
    prepare: Callable[[In], Out], items: Sequence[In], *, ahead: int, workers: int
) -> Iterator[Iterator[Out]]:
    """Results of a function for items, in their order, computed by threads ahead of their use.

    An exception of the function is raised where its result is due. On leaving, what has not
    begun is dropped and what has begun is waited for.

    Args:
        prepare: function that several threads may call at once.
        items: its arguments.
        ahead: largest number of results that are ready or being computed, and not yet taken.
        workers: number of threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        yield _results(pool, prepare, items, ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, prepare: Callable[[In], Out], items: Sequence[In], ahead: int
) -> Iterator[Out]:
    started: deque[Future[Out]] = deque()
    left = iter(items)
    for item in left:
        started.append(pool.submit(prepare, item))
        if len(started) >= ahead:
            yield started.popleft().result()
    while started:
        yield started.popleft().result()
