"""The command writes what it has measured, and continues."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.rivals_search.ablations import UNCHANGED
from benchmarks.rivals_search.command import main
from benchmarks.rivals_search.replays import LARGE, SYNTHETIC, Key, read_results
from tests.benchmarks.rivals_search.conftest import TASKS

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, out: Path, *options: str) -> None:
    paths = ["--grids", str(folder), "--runs", str(out / "runs.jsonl")]
    main(
        [*paths, "--markdown", str(out / "table.md"), "--tasks", *TASKS, "--processes", "1",
         "--budgets", "1.5", "--bootstraps", "2", "--synthetic", "2", "--seeds", "1", *options]
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_run_adds_what_is_missing(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, "--methods", "asha-3")
    first = read_results(tmp_path / "runs.jsonl")
    assert len(first) == len(TASKS) * 3 + 2
    run(folder, tmp_path, "--methods", "asha-3", "oboe-tasks")
    second = read_results(tmp_path / "runs.jsonl")
    assert second.items() >= first.items()
    assert len(second) == len(first) + len(TASKS) * 3
    run(folder, tmp_path, "--methods", "oboe-tasks", "--forget", "asha-3")
    assert {key.method for key in read_results(tmp_path / "runs.jsonl")} == {"oboe-tasks"}


@pytest.mark.long
@pytest.mark.slow
def test_ablations_have_their_differences_from_the_unchanged_row(
    folder: Path, tmp_path: Path
) -> None:
    run(folder, tmp_path, "--methods", "joint", "--ablations", "--large", "1")
    results = read_results(tmp_path / "runs.jsonl")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    ablations = text.split("# Ablations of `joint`")[1].splitlines()
    rows = [line.split(" | ") for line in ablations if line.startswith("| `start-3` ")]
    assert len(rows) == 2  # on the minigrid and on synthetic grids
    for column, figure, factor in ((4, "tau", 1), (6, "regret", 100)):
        apart = [
            results[Key(task, b, "start-3", 1.5)][figure]
            - results[Key(task, b, UNCHANGED, 1.5)][figure]
            for task in TASKS
            for b in range(2)
        ]
        found = float(rows[0][column].split()[0].replace("\u2212", "-"))
        assert found == pytest.approx(factor * np.mean(apart), abs=6e-3)
    assert results[Key(SYNTHETIC, 0, UNCHANGED, 1.5)] == results[Key(SYNTHETIC, 0, "joint", 1.5)]
    large = {key.method for key in results if key.source == LARGE}
    assert large == {"joint", UNCHANGED, "no-cka", "cka-of-encoders", "start-1", "start-at-1/16"}
    assert "Ablations: 1 synthetic grids of 16 x 16" in text


@pytest.mark.slow
def test_cells_are_means_of_the_results(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, "--methods", "asha-3", "oboe-tasks")
    results = read_results(tmp_path / "runs.jsonl")
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    assert [row[0] for row in rows] == ["| `asha-3`", "| `oboe-tasks`", "| `asha-3`"]
    tau = np.mean(
        [results[Key(task, b, "asha-3", 1.5)]["tau"] for task in TASKS for b in range(2)]
    )
    assert float(rows[0][3].split()[0]) == pytest.approx(tau, abs=6e-4)
    regret = [results[Key(SYNTHETIC, n, "asha-3", 1.5)]["regret"] for n in range(2)]
    found = re.match(r"[\d.]+", rows[2][5])
    assert found
    assert float(found[0]) == pytest.approx(100 * np.mean(regret), abs=6e-3)
    full = [results[Key(task, -1, "asha-3", 1.5)]["tau"] for task in TASKS]
    assert float(rows[0][6]) == pytest.approx(np.mean(full), abs=6e-4)
