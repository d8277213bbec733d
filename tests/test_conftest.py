"""The tests set all environment variables that they need; the shell need not."""

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
    """On any number of cores: the order of summation changes the last bits."""
    pools = threadpoolctl.threadpool_info()
    assert {pool["user_api"] for pool in pools} >= {"blas", "openmp"}
    assert {pool["num_threads"] for pool in pools} == {1}
    assert torch.get_num_threads() == 1


def test_processes_started_by_tests_inherit_the_environment() -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'])"
    completed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert completed.stdout.split() == ["1", "1"]
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert not sys.dont_write_bytecode
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_ci_runs_the_readmes_command_with_no_other_settings() -> None:
    """Any other exported variable would hide that the README's command lacks it."""
    script = CI.read_text(encoding="utf-8")
    assert re.findall(r"^\s*export\s+(\w+)", script, re.MULTILINE) == ["UV_PROJECT_ENVIRONMENT"]
    assert "\nuv run --extra test pytest\n" in script
