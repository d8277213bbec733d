"""Files that do not fit together are refused."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.data import read_task
from mordal_optuna.errors import GridError

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.minigrid.tables.data import TaskData


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "grids")


def test_the_truth_is_the_mean_over_each_pairs_runs(tasks: tuple[TaskData, ...]) -> None:
    """The grid's own run and the further ones weigh the same, whatever their number."""
    data = tasks[0]
    assert data.run_counts.tolist() == [3, 2, 1] * 3
    assert data.run_scores[:9] == pytest.approx(data.scores)
    further = data.further_values.mean(axis=2)
    assert data.truth[0] == pytest.approx((data.scores[0] + further[0] + further[1]) / 3)
    assert data.truth[1] == pytest.approx((data.scores[1] + further[2]) / 2)
    assert data.truth[2] == pytest.approx(data.scores[2])
    assert np.abs(data.truth[0] - data.scores[0]).max() > 0


@pytest.mark.parametrize("added", [["encoder-0", "llm-0", 1], ["encoder-0", "llm-0", 0]])
def test_a_run_that_is_listed_twice_or_is_the_grids_own_is_refused(
    own: Path, added: list[str | int]
) -> None:
    listed = json.loads((own / "seeds.json").read_text())
    listed["runs"].append(added)
    (own / "seeds.json").write_text(json.dumps(listed))
    with pytest.raises(GridError, match=r"seeds.json lists the run \('encoder-0', 'llm-0', \d\)"):
        read_task(own, "gqa")


def test_no_further_run_is_refused(own: Path) -> None:
    listed = json.loads((own / "seeds.json").read_text())
    (own / "seeds.json").write_text(json.dumps(listed | {"runs": []}))
    with pytest.raises(GridError, match="seeds.json lists no run"):
        read_task(own, "gqa")


def test_files_of_seeds_without_mean_likelihoods_are_read(own: Path) -> None:
    with np.load(own / "seeds.npz") as stored:
        older = {key: stored[key] for key in stored.files if not key.endswith("/p_correct")}
    assert read_task(own, "gqa").further_p_correct is not None
    np.savez(own / "seeds.npz", **older)
    assert read_task(own, "gqa").further_p_correct is None
    np.savez(own / "seeds.npz", **older, **{"gqa/p_correct": np.zeros((2, 6))})
    with pytest.raises(GridError, match=r"p_correct of \(2, 6\) for gqa"):
        read_task(own, "gqa")


def test_similarities_are_exchanged_and_nothing_else(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    assert data.biased.vision_similarity != data.grid.vision_similarity
    assert data.biased.curves == data.grid.curves


def test_rivals_seconds_are_shared_by_the_tasks(tasks: tuple[TaskData, ...]) -> None:
    rivals = tasks[1].rivals
    assert rivals is not None
    assert rivals.seconds == {"logme": 1.5, "logme@budget": 4.5}
    assert np.isnan(rivals.scores["logme@budget"][0])


def test_values_that_do_not_average_to_the_score_are_refused(own: Path) -> None:
    path = own / "gqa.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["values"][2, 1] = 1 - arrays["values"][2, 1]
    np.savez_compressed(path, **arrays)
    with pytest.raises(GridError, match=r"gqa: the values of encoder-0 \+ llm-2 at 1024 samples"):
        read_task(own, "gqa")


def test_values_of_another_shape_are_refused(own: Path) -> None:
    path = own / "gqa.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    for name in arrays:
        np.savez_compressed(path, **arrays | {name: arrays[name][1:]})
        with pytest.raises(GridError, match="gqa: values of shape"):
            read_task(own, "gqa")


def test_a_grid_that_knows_no_costs_is_refused(own: Path) -> None:
    grid = json.loads((own / "gqa.json").read_text())
    for curve in grid["curves"]:
        nothing = [0.0] * len(curve["samples"])
        curve.update(train_seconds=nothing, eval_seconds=nothing)
    (own / "gqa.json").write_text(json.dumps(grid))
    with pytest.raises(GridError, match="gqa: all seconds are 0"):
        read_task(own, "gqa")


def test_seeds_of_another_shape_are_refused(own: Path) -> None:
    with np.load(own / "seeds.npz") as stored:
        arrays = dict(stored)
    for name in ("gqa", "gqa/nll"):
        np.savez_compressed(own / "seeds.npz", **arrays | {name: arrays[name][:, 1:]})
        with pytest.raises(GridError, match="runs, rungs and documents are"):
            read_task(own, "gqa")


@pytest.mark.parametrize("factor", [-1.0, 3.0])
def test_a_warm_up_that_costs_more_than_the_grid_file_says_is_refused(
    own: Path, factor: float
) -> None:
    stored = json.loads((own / "warmups.json").read_text())
    key = min(stored)
    stored[key] *= factor
    (own / "warmups.json").write_text(json.dumps(stored))
    with pytest.raises(GridError, match=f"warmups.json has .* for '{re.escape(key)}' on gqa"):
        read_task(own, "gqa")


def test_an_unknown_pair_is_refused(own: Path) -> None:
    listed = json.loads((own / "seeds.json").read_text())
    listed["runs"][0] = ["clip", "llama", 1]
    (own / "seeds.json").write_text(json.dumps(listed))
    with pytest.raises(GridError, match=r"seeds.json names the pair \['clip', 'llama'\]"):
        read_task(own, "gqa")


def test_a_missing_file_is_named_and_optional_ones_are_not_needed(own: Path) -> None:
    for name in ("rivals.json", "schedules.json"):
        (own / name).unlink()
    data = read_task(own, "gqa")
    assert data.rivals is None
    assert data.schedules is None
    (own / "gqa.biased.json").unlink()
    with pytest.raises(GridError, match="gqa.biased.json' does not exist"):
        read_task(own, "gqa")
