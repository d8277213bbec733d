"""A candidate that is killed again and again ends as one that never was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def aligned(zoo: Path, folder: Path, kills: int) -> Any:  # noqa: ANN401
    script = Path(__file__).with_name("aligner.py")
    done = subprocess.run(
        [sys.executable, str(script), str(zoo), str(folder), "0", str(kills)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_20_moments_it_ends_with_the_same_digest(zoo: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, every other one while writing; every rung's numbers equal."""
    undisturbed = aligned(zoo, tmp_path / "undisturbed", 0)["digests"]
    found = aligned(zoo, tmp_path / "killed", 20)
    assert len(undisturbed) == 1
    assert len(found["kills"]) == 20
    assert any(kill["writing"] for kill in found["kills"])
    assert not all(kill["writing"] for kill in found["kills"])
    assert found["digests"] == undisturbed * len(found["digests"])
