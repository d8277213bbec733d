"""Further runs are collected from the files that are there, whatever their number."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.make.collect import collect_seeds, likelihood_columns
from benchmarks.minigrid.make.files import Files, Job
from benchmarks.minigrid.tables.data import read_tasks
from tests.benchmarks.minigrid.files import TASKS

if TYPE_CHECKING:
    from pathlib import Path

# Runs that are done: none, one and two of a pair.
RUNS = [("encoder-0", "llm-1", 2), ("encoder-2", "llm-0", 1), ("encoder-2", "llm-0", 2)]


@pytest.mark.parametrize("count", [1, 3])
def test_runs_that_are_done_are_collected(folder: Path, tmp_path: Path, count: int) -> None:
    """In the grid's order of pairs, with values and likelihoods of the right run."""
    grids = shutil.copytree(folder, tmp_path / "grids")
    files = Files(tmp_path / "pairs", tmp_path / "features")
    files.pairs.mkdir()
    before = read_tasks(grids, TASKS)
    done = RUNS[:count]
    for number, (encoder, llm, seed) in enumerate(reversed(done)):
        values = {task: np.full((6, 120), 0.1 * number, dtype=np.float16) for task in TASKS}
        measured = {task: {"nll": [float(number)] * 6} for task in TASKS}
        nlls = np.full((6, 120), number, dtype=np.float16)
        values |= {f"{task}/nll": nlls for task in TASKS}
        files.write(Job("train", encoder, llm, seed=seed), {"tasks": measured}, values)
    # Runs of the grid's own seed and under other schedules are not further seeds.
    for job in (Job("train", "encoder-0", "llm-0"), Job("train", "encoder-0", "llm-0", 1, "ema")):
        files.write(job, {}, {})
    assert collect_seeds(files, grids, tasks=TASKS, seeds=(1, 2)) == count
    listed = json.loads((grids / "seeds.json").read_text(encoding="utf-8"))
    assert [tuple(run) for run in listed["runs"]] == done
    for data, old in zip(read_tasks(grids, TASKS), before, strict=True):
        assert data.run_counts.sum() == 9 + count
        expected = 0.1 * np.arange(count)[::-1]
        assert data.further_values[:, 0, 0] == pytest.approx(expected, abs=1e-3)
        assert data.further_nlls is not None
        assert data.further_nlls[:, 0] == pytest.approx(np.arange(count)[::-1])
        assert data.further_p_correct is not None
        expected = np.exp(-np.arange(count, dtype=float))[::-1]
        assert data.further_p_correct[:, 0] == pytest.approx(expected)
        assert data.values == pytest.approx(old.values)


def test_the_mean_likelihood_has_the_standard_error_of_clusters() -> None:
    """As a score has it: documents of a cluster count as one."""
    p = np.array([0.2, 0.2, 0.6, 0.6])
    nlls = -np.log(np.stack((p, p[::-1])))
    alone = likelihood_columns(nlls, None)
    assert alone["p_correct"] == pytest.approx([0.4, 0.4])
    assert alone["p_correct_stderr"][0] == pytest.approx(p.std(ddof=1) / 2)
    together = likelihood_columns(nlls, (7, 7, 9, 9))
    assert together["p_correct_stderr"][0] == pytest.approx(p[1:3].std(ddof=1) / 2**0.5)
