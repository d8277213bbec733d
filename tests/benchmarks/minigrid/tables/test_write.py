"""The whole command on 3 x 3 pairs and two tasks, and what it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.analysis import against_default, common, over_tasks
from benchmarks.minigrid.tables.bootstrap import Interval
from benchmarks.minigrid.tables.methods import FIGURES, PARTS, MethodResult
from benchmarks.minigrid.tables.paper import DELTA, PAPER
from benchmarks.minigrid.tables.render import cell, number, table
from benchmarks.minigrid.tables.write import BEGIN, END, main, with_section
from mordal_optuna.config import FAITHFUL
from mordal_optuna.errors import GridError
from mordal_optuna.replay.run import METHODS, replay
from mordal_optuna.zoo.tasks.names import TASKS as ALL_TASKS
from tests.benchmarks.minigrid.files import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.minigrid.tables.data import TaskData

EFFORT = ["--bootstraps", "4", "--stock-bootstraps", "1", "--ablation-bootstraps", "1"]
EFFORT += ["--store-bootstraps", "2", "--seeds", "1"]


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("written")
    readme, results = place / "README.md", place / "results.json"
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    main(
        ["--grids", str(folder), "--readme", str(readme), "--results", str(results)]
        + ["--tasks", *TASKS, *EFFORT]
    )
    return readme, results


@pytest.mark.slow
def test_results_have_every_method_and_figure(
    written: tuple[Path, Path], tasks: tuple[TaskData, ...]
) -> None:
    stored = json.loads(written[1].read_text(encoding="utf-8"))
    ties = stored.pop("ties")
    assert list(ties) == list(TASKS)
    assert all(0 <= found["held"] <= 1 for found in ties.values())
    assert list(stored) == [*TASKS, "mean"]
    for by_method in stored.values():
        assert list(by_method) == [*METHODS, "logme", "logme@budget"]
        for found in by_method.values():
            assert set(found) == {*FIGURES, "cost"}
            assert set(found["cost"]) == {*PARTS, "total"}
    found = stored["gqa"]["mordal"]
    real = replay(tasks[0].grid, "mordal")
    assert found["tau"]["value"] == pytest.approx(real.tau, abs=1e-5)
    assert found["gain_projected"]["value"] == pytest.approx(real.gain_projected, abs=1e-5)
    mean = np.mean([stored[task]["cross"]["tau"]["value"] for task in TASKS])
    assert stored["mean"]["cross"]["tau"]["value"] == pytest.approx(mean, abs=2e-5)
    assert stored["mean"]["logme"]["rejected"] is None


@pytest.mark.slow
def test_the_readme_has_every_section_and_what_was_around(written: tuple[Path, Path]) -> None:
    text = written[0].read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "old" not in text.split("\n")
    sections = [line for line in text.split("\n") if line.startswith("### ")]
    assert sections == [
        "### What the truth looks like",
        "### Every method",
        "### Beside the paper",
        "### Aims",
        "### Task by task",
        "### Ablations",
        "### Curves",
        "### Ties and the winner",
        "### Intervals",
        "### All tasks from one store",
        "### Post-mortems",
    ]
    for block in text.split("\n\n"):
        widths = {line.count(" | ") for line in block.split("\n") if line.startswith("| ")}
        assert len(widths) <= 1  # every row has its header's columns


@pytest.mark.slow
def test_the_same_files_give_the_same_section(
    written: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    """With one process as with two."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\n{END}\n\nafter\n", encoding="utf-8")
    main(
        ["--grids", str(folder), "--readme", str(readme), "--results", str(tmp_path / "r.json")]
        + ["--tasks", *TASKS, *EFFORT, "--processes", "1"]
    )
    assert readme.read_text(encoding="utf-8") == written[0].read_text(encoding="utf-8")


def test_markers_must_be_there_once() -> None:
    text = f"a{BEGIN}b{END}c"
    once = with_section(text, "new")
    assert once == f"a{BEGIN}\n\nnew\n{END}c"
    assert with_section(once, "new") == once
    for wrong in ("none", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(GridError, match="each once"):
            with_section(wrong, "new")


def test_means_over_tasks_pair_the_replicates() -> None:
    """Replicates that move against each other on two tasks cancel in their mean."""

    def result(values: list[float]) -> MethodResult:
        rows = [{"regret": v, "tau": v, "rejected": None} for v in values]
        return MethodResult(rows[0], tuple(rows[1:]), ("e", "m"))

    up, down = result([0.5, 0.0, 1.0]), result([0.3, 1.0, 0.0])
    found = over_tasks({"a": {"x": up}, "b": {"x": down}}, "x", "regret")
    assert found == Interval(0.4, 0.5, 0.5, 0.5)
    assert over_tasks({"a": {"x": up}}, "x", "rejected") is None
    own = {"a": {"x": up, "default": up}, "b": {"x": down, "default": up}}
    assert against_default(own, "x", "tau").value == pytest.approx(-0.1)
    assert common(own) == ["x", "default"]


def test_cells() -> None:
    assert number(-0.0004, 3) == "0.000"
    assert number(-0.4, 1) == "-0.4"
    assert cell(None, "tau") == "–"
    assert cell(Interval(0.5, 0.4, 0.3, 0.7), "tau") == "0.500 (0.300 to 0.700)"
    assert cell(Interval(0.0, 0.004, 0.0, 0.02), "regret") == "0.40 (0.00 to 2.00)"
    assert cell(Interval(1.0, 1.0, 1.0, 1.0), "gain") == "1.0"
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | --: |\n| x | 1 |"


def test_the_paper_is_quoted_for_all_tasks() -> None:
    assert tuple(PAPER) == ALL_TASKS
    assert FAITHFUL["max_fit_loss"] == DELTA
    # means that the paper itself states
    assert np.mean([row.tau for row in PAPER.values()]) == pytest.approx(0.870, abs=5e-4)
    assert np.mean([row.rivals[0] for row in PAPER.values()]) == pytest.approx(0.515, abs=1e-3)
