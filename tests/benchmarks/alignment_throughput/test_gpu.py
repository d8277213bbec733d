"""The script for GPUs runs on a CPU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.alignment_throughput import gpu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="would train 7 billion weights")
def test_the_script_trains_with_the_packages_own_recipe(tmp_path: Path) -> None:
    """An option that the package has gained cannot stop it."""
    out = tmp_path / "out.json"
    gpu.main(["--batch", "2", "--steps", "1", "--tokens", "200", "--out", str(out)])
    found = json.loads(out.read_text())
    assert len(found["losses"]) == 3
    assert found["tokens_per_second"] > 0
    assert found["share_of_datasheet"] is None
