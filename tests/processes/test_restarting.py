"""A command is run again after status 75 and unexpected signals, and after nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.processes.restarting import Restarting

if TYPE_CHECKING:
    from pathlib import Path

# Ends with the statuses that a file lists, one at each run; a minus sign kills it by that signal.
SCRIPT = """
import os, sys
lines = open(sys.argv[1]).read().split()
open(sys.argv[1], "w").write(" ".join(lines[1:]))
code = int(lines[0])
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""


@pytest.mark.parametrize(
    ("statuses", "end", "left"),
    [
        ("0 1", 0, "1"),
        ("75 75 0 1", 0, "1"),
        ("2 0", 2, "0"),
        ("75 2 0", 2, "0"),
        ("-9 0", 0, ""),
        ("1 0", 1, "0"),
        ("75 75 75 75 0", 75, "0"),
        ("-9 -9 -9 -9 0", 137, "0"),
    ],
)
def test_what_leads_to_a_restart(tmp_path: Path, statuses: str, end: int, left: str) -> None:
    """With three restarts in a row at most; pauses grow."""
    file, pauses = tmp_path / "statuses", list[float]()
    file.write_text(statuses)
    command = [sys.executable, "-S", "-c", SCRIPT, str(file)]
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        pauses.append(seconds)

    found = Restarting(command, restarts=3, sleep=sleep, clock=lambda: now[0]).run()
    assert (found, file.read_text()) == (end, left)
    runs = len(statuses.split()) - len(left.split())
    assert sum(pauses) == sum(2.0**n for n in range(runs - 1))


def test_a_signal_is_passed_on_and_ends_the_loop(tmp_path: Path) -> None:
    """The command answers with status 75 and is not started again."""
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).open('a').write('x')\n"
        "time.sleep(60)\n"
    )
    loop = [sys.executable, "-m", "mordal_optuna.processes.restarting", "--"]
    run = subprocess.Popen([*loop, sys.executable, "-S", "-c", code], env=os.environ)
    give_up = time.monotonic() + 60
    while not (tmp_path / "begun").is_file() and time.monotonic() < give_up:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 75
    assert (tmp_path / "begun").read_text() == "x"
