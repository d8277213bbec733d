"""What the tests need of their machine they set themselves; the shell need not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np  # noqa: F401 - loads its BLAS
import threadpoolctl
import torch

CI = Path(__file__).parent.parent / ".ci" / "run"


def test_numpy_and_torch_work_on_one_thread() -> None:
    """Whatever the cores: sums in another order are not equal to the last bit."""
    pools = threadpoolctl.threadpool_info()
    assert {pool["user_api"] for pool in pools} >= {"blas", "openmp"}
    assert {pool["num_threads"] for pool in pools} == {1}
    assert torch.get_num_threads() == 1


def test_processes_that_tests_start_inherit_it() -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"]
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert not sys.dont_write_bytecode
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_ci_runs_the_readmes_command_with_no_other_settings() -> None:
    """What it set beside the place of its environment would hide what the command lacks."""
    script = CI.read_text(encoding="utf-8")
    assert re.findall(r"^\s*export\s+(\w+)", script, re.MULTILINE) == ["UV_PROJECT_ENVIRONMENT"]
    assert "\nuv run --extra test pytest\n" in script
