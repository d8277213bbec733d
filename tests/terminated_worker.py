"""`mordal worker` that gets SIGTERM in the middle of training, as from a scheduler.

    python terminated_worker.py POSITION RUNG STUDY_FILE [OPTION...]

The signal comes in the optimiser step from POSITION samples on the way to RUNG.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from mordal_optuna.alignment.train import Trainer
from mordal_optuna.cli import app


def main() -> None:
    """Patch the trainer, and be the command."""
    position, rung, *arguments = sys.argv[1:]
    run, step, wanted = Trainer._run, Trainer._step, [0]

    def noted(self: Trainer, until: int, *given: Any) -> None:
        wanted[0] = until
        run(self, until, *given)

    def stepped(self: Trainer, *given: Any) -> None:
        if (self.samples, wanted[0]) == (int(position), int(rung)):
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, *given)

    Trainer._run, Trainer._step = noted, stepped  # type: ignore[method-assign]
    sys.argv = ["mordal", "worker", *arguments]
    app.main()


if __name__ == "__main__":
    main()
