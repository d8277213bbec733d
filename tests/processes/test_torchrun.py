"""torchrun with the status of its processes, as real processes of one launch end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Rank 0 waits for the other one's end, and for SIGTERM; a third argument sends it to the launcher.
SCRIPT = """
import os, signal, sys, time
status, other = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if os.environ["RANK"] == "0":
    if other == "launcher":
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60 if int(status) else 0)
elif other == "signal":
    os.kill(os.getpid(), signal.SIGKILL)
elif other == "self":
    sys.exit(int(status))
time.sleep(60 if int(status) else 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "other", "expected"),
    [(0, "self", 0), (2, "self", 2), (75, "signal", 137), (75, "launcher", 75)],
)
def test_the_status_is_that_of_the_process_that_failed_first(
    tmp_path: Path, status: int, other: str, expected: int
) -> None:
    """75 by itself is met in `tests/test_joining.py`."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    module = ["-m", "mordal_optuna.processes.torchrun", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *module, str(script), str(status), other]
    launched = subprocess.run(
        command, env={**os.environ}, capture_output=True, text=True, timeout=100, check=False
    )
    assert launched.returncode == expected, launched.stderr[-2000:]
