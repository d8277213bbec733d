"""`mordal worker` that gets SIGTERM in the middle of training, as from a scheduler.

    python terminated_worker.py POSITION RUNG STUDY_FILE [OPTION...]

The signal comes in the optimiser step from POSITION samples on the way to RUNG. Of a launch, it
comes to the ranks in the variable MORDAL_TEST_RANKS (all by default), or to `launcher`. The time
of the signal is written to the file MORDAL_TEST_TIME, if it is given.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mordal_optuna.alignment.train import Trainer
from mordal_optuna.cli import app
from mordal_optuna.processes.launch import launched_rank


def send() -> None:
    """Send the signal, if it is for this rank."""
    rank, wanted = launched_rank(), os.environ.get("MORDAL_TEST_RANKS", "all")
    if rank == 0 and (file := os.environ.get("MORDAL_TEST_TIME")):
        Path(file).write_text(str(time.time()))
    if wanted in ("all", str(rank)):
        os.kill(os.getpid(), signal.SIGTERM)
    elif wanted == "launcher" and rank == 0:
        os.kill(os.getppid(), signal.SIGTERM)


def main() -> None:
    """Patch the trainer, and be the command."""
    position, rung, *arguments = sys.argv[1:]
    run, step, wanted = Trainer._run, Trainer._step, [0]

    def noted(self: Trainer, until: int, *given: Any) -> None:
        wanted[0] = until
        run(self, until, *given)

    def stepped(self: Trainer, *given: Any) -> None:
        if (self.samples, wanted[0]) == (int(position), int(rung)):
            send()
        step(self, *given)

    Trainer._run, Trainer._step = noted, stepped  # type: ignore[method-assign]
    sys.argv = ["mordal", "worker", *arguments]
    app.main()


if __name__ == "__main__":
    main()
