"""A few faults of every kind; the benchmark makes a hundred."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
@pytest.mark.timeout(600)
def test_faults_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By four workers on one PostgreSQL. A stop, which takes more than a minute, is left out."""
    kinds = {kind: n for kind, n in run.KINDS.items() if kind != "stop"}
    monkeypatch.setattr(run, "KINDS", kinds)
    found = run.chaos(tmp_path, faults=8, every=2.0, seed=3)
    assert found["problems"] == []
    assert found["other_statuses"] == {}
    assert sum(found["faults"].values()) == 8


def test_trainings_are_counted_by_rung(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run.trainings(log) == Counter()
    log.write_text("a 8\na 16\na 8\n")
    assert run.trainings(log) == {("a", 8): 2, ("a", 16): 1}
