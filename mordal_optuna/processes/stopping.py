"""Ending on SIGTERM: at once, or after the optimiser step where that saves work."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mordal_optuna.errors import Preempted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

# Schedulers kill a process about 30 seconds after SIGTERM. One that cannot leave by itself until
# then (it waits for another rank, or its step takes longer) ends here: everything it writes is
# written atomically, and its claim expires.
LEAVE_SECONDS = 27.0


class StopRequest:
    """Whether this process was asked to end, and where it may end.

    Outside of `deferred`, SIGTERM raises `Preempted` wherever the main thread is, as Ctrl-C
    raises `KeyboardInterrupt`. Within it only `asked` is set, which the caller looks at. After
    the first SIGTERM further ones are ignored: a launcher repeats it while the process leaves.
    """

    def __init__(self) -> None:
        """Not asked."""
        self.asked = False
        self._left = False
        self._depth = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """React to SIGTERM within this context; the main thread calls it."""
        process = os.getpid()
        deadline = threading.Timer(LEAVE_SECONDS, os._exit, [Preempted.STATUS])
        deadline.daemon = True

        def react(_: int, __: FrameType | None) -> None:
            if os.getpid() != process:  # a forked process that decodes data
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
            elif not self.asked:
                deadline.start()
                self.ask()

        before = signal.signal(signal.SIGTERM, react)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            deadline.cancel()

    def ask(self) -> None:
        """Ask this process to end.

        Raises:
            Preempted: unless its end is deferred.
        """
        self.asked = True
        if not self._depth:
            self.check()

    def check(self) -> None:
        """End here if that was asked.

        Raises:
            Preempted: if this process was asked to end, once.
        """
        if self.asked and not self._left:
            self.leave()

    def leave(self) -> None:
        """End this process, or its part in a launch in which another process was asked to.

        Raises:
            Preempted: always.
        """
        self.asked = self._left = True
        raise Preempted

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let `asked` be looked at instead of raising anything."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Within `deferred`: raise at once again, where nothing would be lost.

        Raises:
            Preempted: if this process was asked to end before or within the context.
        """
        depth, self._depth = self._depth, 0
        try:
            self.check()
            yield
        finally:
            self._depth = depth
