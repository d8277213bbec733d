"""The workers of the chaos benchmark: started anew whenever one has ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

# Seconds that a stopped worker stays stopped: longer than a lease.
STOPPED_SECONDS = 70.0
_READY_SECONDS = 300.0
AGAIN = 75


class Workers:
    """Several workers on one study, through `benchmarks.chaos.nursery`."""

    def __init__(self, folder: Path, log: Path) -> None:
        """Start the process that forks them.

        Args:
            folder: folder of their output.
            log: file that gets a line for each rung that was trained.
        """
        self._folder = folder
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.chaos.nursery", str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._events: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self._events.get(timeout=_READY_SECONDS) != "ready":
            raise SystemExit("the workers' libraries could not be loaded")
        self._number = 0
        self._asked = 0
        self.running: set[int] = set()
        # When each stopped worker goes on.
        self.stopped: dict[int, float] = {}
        self.statuses: Counter[int] = Counter()

    def _read(self) -> None:
        assert self._nursery.stdout
        for line in self._nursery.stdout:
            self._events.put(line.strip())
        self._events.put("gone")

    def start(self, study_file: Path) -> None:
        """Start one more worker.

        Args:
            study_file: the study file.
        """
        self._number += 1
        self._asked += 1
        output = str(self._folder / f"{self._number}.txt")
        assert self._nursery.stdin
        self._nursery.stdin.write(json.dumps([output, "worker", str(study_file)]) + "\n")

    def update(self) -> None:
        """Take note of starts and ends, and let stopped workers go on whose time has come."""
        with suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if event == "gone":
                    raise SystemExit("the process that starts workers has ended")
                kind, pid, *status = event.split()
                if kind == "started":
                    self._asked -= 1
                    self.running.add(int(pid))
                else:
                    self.running.discard(int(pid))
                    self.stopped.pop(int(pid), None)
                    self.statuses[int(status[0])] += 1
        for stopped, until in list(self.stopped.items()):
            if monotonic() >= until:
                self._go_on(stopped)

    @property
    def at_work(self) -> int:
        """Workers that run, and those that are being started; stopped ones do not count."""
        return len(self.running) + self._asked

    @property
    def left(self) -> int:
        """All workers that have not ended."""
        return self.at_work + len(self.stopped)

    def send(self, number: signal.Signals, rng: Random) -> bool:
        """Send a signal to one of the running workers; False if there is none.

        Args:
            number: the signal.
            rng: generator that chooses the worker.
        """
        if not self.running:
            return False
        pid = rng.choice(sorted(self.running))
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        if number == signal.SIGSTOP:
            self.running.discard(pid)
            self.stopped[pid] = monotonic() + STOPPED_SECONDS
        return True

    def go_on(self) -> None:
        """Let all stopped workers go on."""
        for pid in list(self.stopped):
            self._go_on(pid)

    def _go_on(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        del self.stopped[pid]
        self.running.add(pid)

    def close(self) -> None:
        """Kill what is left, and the process that forks."""
        for pid in [*self.running, *self.stopped]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._nursery.stdin
        self._nursery.stdin.close()
        self._nursery.wait(60)
