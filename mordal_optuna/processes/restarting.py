"""Runs a command again when another try may help: `python -m mordal_optuna.processes.restarting`.

For schedulers that take every exit status above 0 for a failure, as HyperQueue does. The command
is run again after the exit status 75 ("try again": it was preempted, or an outage lasted too
long), and after a signal that it did not expect (such as the kernel's when memory ran out). Any
other status ends the loop, and is the status of this program. A signal to end is passed on to the
command, and the loop ends with it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

# "Temporary failure", EX_TEMPFAIL of BSD's sysexits.h.
AGAIN = 75
RESTARTS = 20
# Seconds before a restart; twice as long each time in a row, at most so many.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
# A run of so many seconds has got somewhere: pauses and restarts are counted anew after it.
LASTING_SECONDS = 600.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Restarting:
    """Keeps a command running until it ends for good."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        restarts: int = RESTARTS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            command: program and its arguments.
            restarts: number of restarts in a row after which the last status is final, at least 0.
            sleep: function that waits for a number of seconds.
            clock: function that gives a monotonic time in seconds.
        """
        self._command = list(command)
        self._restarts = restarts
        self._sleep = sleep
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: int | None = None

    def run(self) -> int:
        """Run the command until it ends for good.

        Returns:
            Its last exit status; 128 plus the signal's number if a signal ended it.
        """
        in_a_row = 0
        with self._signals():
            while True:
                begun = self._clock()
                status = self._once()
                again = status == AGAIN or status > 128  # noqa: PLR2004 - ended by a signal
                if self._asked is not None or not again:
                    return status
                in_a_row = 0 if self._clock() - begun >= LASTING_SECONDS else in_a_row
                if in_a_row == self._restarts:
                    return status
                in_a_row += 1
                pause = min(FIRST_PAUSE * 2 ** (in_a_row - 1), LONGEST_PAUSE)
                sys.stderr.write(
                    f"mordal: the worker ended with status {status}; started again in "
                    f"{pause:.0f} s\n"
                )
                sys.stderr.flush()
                self._wait(pause)
                if self._asked is not None:
                    return status

    def _once(self) -> int:
        self._child = subprocess.Popen(self._command)
        if self._asked is not None:  # the signal came before there was a child
            self._child.send_signal(self._asked)
        code = self._child.wait()
        return code if code >= 0 else 128 - code

    def _wait(self, seconds: float) -> None:
        """Pause; at most a second longer than until a signal to end."""
        end = self._clock() + seconds
        while self._asked is None and (left := end - self._clock()) > 0:
            self._sleep(min(left, 1.0))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._pass_on) for number in _PASSED_ON}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._asked = number
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)


def main() -> None:
    """Run the command that follows the options."""
    parser = argparse.ArgumentParser(description="Run a command again after exit status 75.")
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- program and arguments")
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    raise SystemExit(Restarting(command, restarts=given.restarts).run())


if __name__ == "__main__":
    main()
