"""Starts `mordal worker`s as forks of one process that has loaded all libraries.

    python -m benchmarks.chaos.nursery LOG

A worker that is killed every few seconds would otherwise spend its life importing torch. Each
line on standard input is a JSON list: a file for the worker's output, then its arguments. Standard
output says `started PID` and `ended PID STATUS`. LOG gets a line for each checkpoint of a rung
that was trained and written: its run and its number of samples.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.1


def load(log: Path) -> None:
    """Import what a worker uses, and note every rung that is written.

    Args:
        log: file that the notes are appended to.
    """
    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.evaluation.guards import import_lmms_eval
    from mordal_optuna.reporting import publishing
    from mordal_optuna.workbench import workbench

    import_lmms_eval()
    assert workbench
    assert publishing
    save = CheckpointStore.save

    def noted(self: CheckpointStore, run: str, identity: Any, checkpoint: Any, *more: Any) -> Any:
        manifest = save(self, run, identity, checkpoint, *more)
        if "/" not in run:  # not an unfinished rung
            line = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(line, f"{run} {checkpoint.samples}\n".encode())
            os.close(line)
        return manifest

    setattr(CheckpointStore, "save", noted)  # noqa: B010 - mypy takes methods for constants


def work(output: str, arguments: list[str]) -> None:
    """Be the command `mordal` with these arguments, in a forked process; does not return."""
    from mordal_optuna.cli import app

    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(file, number)
    sys.argv = ["mordal", *arguments]
    status = 1
    try:
        app.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Fork a worker for each line, and report the ends of all."""
    load(Path(sys.argv[1]))
    alive = 0
    stdin = open(0, "rb", buffering=0)  # noqa: PTH123, SIM115 - `select` must see all lines
    print("ready", flush=True)
    open_ = True
    while open_ or alive:
        if open_ and select.select([0], [], [], _POLL_SECONDS)[0]:
            line = stdin.readline()
            open_ = bool(line)
            if line:
                output, *arguments = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    work(output, arguments)
                alive += 1
                print(f"started {pid}", flush=True)
        while alive:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                break
            alive -= 1
            print(f"ended {ended} {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
