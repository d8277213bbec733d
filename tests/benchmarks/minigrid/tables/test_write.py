"""The whole command on 3 x 3 pairs and two tasks, and what it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.analysis import against_default, common, over_tasks
from benchmarks.minigrid.tables.bootstrap import Interval, full_data
from benchmarks.minigrid.tables.ceilings import AT_HALF, CEILINGS, SECOND_RUN
from benchmarks.minigrid.tables.markdown import cell, full, number, prose, table
from benchmarks.minigrid.tables.methods import FIGURES, JOINT_ROWS, PARTS, MethodResult
from benchmarks.minigrid.tables.paper import DELTA, PAPER
from benchmarks.minigrid.tables.write import HERE, main
from mordal_optuna.config import FAITHFUL
from mordal_optuna.replay.run import METHODS, replay
from mordal_optuna.zoo.tasks.names import TASKS as ALL_TASKS
from tests.benchmarks.minigrid.files import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.minigrid.tables.data import TaskData

EFFORT = ["--bootstraps", "4", "--stock-bootstraps", "1", "--ablation-bootstraps", "1"]
EFFORT += ["--store-bootstraps", "2", "--tie-bootstraps", "1", "--seeds", "1"]
SECTIONS = [
    "# Results on the minigrid",
    "## The truth",
    "## Every method",
    "## Beside the paper",
    "## Aims",
    "## Task by task",
    "## Ablations",
    "## Curves",
    "## Ties and the winner",
    "## Intervals",
    "## All tasks from one store",
    "## Post-mortems",
]


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("written")
    markdown, results = place / "RESULTS.md", place / "results.json"
    main(
        ["--grids", str(folder), "--markdown", str(markdown), "--results", str(results)]
        + ["--tasks", *TASKS, *EFFORT]
    )
    return markdown, results


@pytest.mark.long
@pytest.mark.slow
def test_results_have_every_method_and_figure(
    written: tuple[Path, Path], tasks: tuple[TaskData, ...]
) -> None:
    stored = json.loads(written[1].read_text(encoding="utf-8"))
    ties = stored.pop("ties")
    assert list(ties) == list(TASKS)
    for by_method in ties.values():
        assert list(by_method) == ["mordal", "joint"]
        assert all(0 <= found["held"] <= 1 for found in by_method.values())
    truth = stored.pop("truth")
    assert list(truth) == list(stored.pop("agreement")) == list(TASKS)
    pairs = [str(candidate) for candidate in tasks[0].grid.candidates]
    assert all(list(found) == pairs for found in truth.values())
    assert all(found["noise"] > 0 for by_pair in truth.values() for found in by_pair.values())
    assert list(stored) == [*TASKS, "mean"]
    for by_method in stored.values():
        rows = [row for m in METHODS for row in (JOINT_ROWS if m == "joint" else (m,))]
        assert list(by_method) == [*CEILINGS, *rows, "logme", "logme@budget"]
        for found in by_method.values():
            assert set(found) == {*FIGURES, "cost"}
            assert set(found["cost"]) == {*PARTS, "total"}
    found = stored["gqa"]["mordal"]
    real = replay(tasks[0].grid, "mordal", truths=full_data(tasks[0]).truth)
    assert found["tau"]["value"] == pytest.approx(real.tau, abs=1e-5)
    assert found["gain_projected"]["value"] == pytest.approx(real.gain_projected, abs=1e-5)
    mean = np.mean([stored[task]["cross"]["tau"]["value"] for task in TASKS])
    assert stored["mean"]["cross"]["tau"]["value"] == pytest.approx(mean, abs=2e-5)
    assert stored["mean"]["logme"]["rejected"] is None
    assert stored["mean"][SECOND_RUN]["tau"]["value"] is None
    assert stored["mean"][AT_HALF]["tau"]["value"] > 0


@pytest.mark.long
@pytest.mark.slow
def test_the_markdown_has_every_section(written: tuple[Path, Path]) -> None:
    """The first line names the command; prose fits in 100 columns; rows match their header."""
    text = written[0].read_text(encoding="utf-8")
    assert "python -m benchmarks.minigrid.tables" in text.split("\n")[0]
    assert all(len(line) <= 100 for line in text.split("\n") if not line.startswith("| "))
    assert [line for line in text.split("\n") if line.startswith("#")] == SECTIONS
    for name in CEILINGS:  # overview, tasks, ablations
        assert text.count(f"\n| {name} |") == 2 + len(TASKS)
    assert "What any ranking can reach" in text
    for block in text.split("\n\n"):
        widths = {line.count(" | ") for line in block.split("\n") if line.startswith("| ")}
        assert len(widths) <= 1


def test_the_committed_markdown_has_the_same_sections() -> None:
    text = (HERE / "RESULTS.md").read_text(encoding="utf-8")
    assert [line for line in text.split("\n") if line.startswith("#")] == SECTIONS


@pytest.mark.long
@pytest.mark.slow
def test_the_same_files_give_the_same_markdown(
    written: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    """With one process as with two."""
    markdown = tmp_path / "RESULTS.md"
    main(
        [
            "--grids",
            str(folder),
            "--markdown",
            str(markdown),
            "--results",
            str(tmp_path / "r.json"),
        ]
        + ["--tasks", *TASKS, *EFFORT, "--processes", "1"]
    )
    assert markdown.read_text(encoding="utf-8") == written[0].read_text(encoding="utf-8")


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
    found = against_default(own, "x", "tau")
    assert found.value == pytest.approx(-0.1)
    assert (found.mean, found.low, found.high) == pytest.approx((0.0, -0.475, 0.475))
    unseen = MethodResult(dict.fromkeys(up.figures), up.replicates, None)
    assert over_tasks({"a": {"x": unseen}, "b": {"x": down}}, "x", "regret") == Interval(
        None, 0.5, 0.5, 0.5
    )
    assert common(own) == ["x", "default"]


def test_cells() -> None:
    assert number(-0.0004, 3) == "0.000"
    assert number(-0.4, 1) == "-0.4"
    assert cell(None, "tau") == "–"
    assert cell(Interval(0.5, 0.4, 0.3, 0.7), "tau") == "0.400 (0.300 to 0.700)"
    assert cell(Interval(0.5, 0.4, 0.3, 0.7), "cost") == "0.50 (0.30 to 0.70)"
    assert full(Interval(0.05, 0.4, 0.3, 0.7), "regret") == "5.00"
    assert full(Interval(None, 0.4, 0.3, 0.7), "regret") == full(None, "regret") == "–"
    assert cell(Interval(0.0, 0.004, 0.0, 0.02), "regret") == "0.40 (0.00 to 2.00)"
    assert cell(Interval(1.0, 1.0, 1.0, 1.0), "gain") == "1.0"
    assert prose("word " * 30) == "\n".join([" ".join(["word"] * 20), " ".join(["word"] * 10)])
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | --: |\n| x | 1 |"


def test_the_paper_is_quoted_for_all_tasks() -> None:
    assert tuple(PAPER) == ALL_TASKS
    assert FAITHFUL["max_fit_loss"] == DELTA
    # means that the paper itself states
    assert np.mean([row.tau for row in PAPER.values()]) == pytest.approx(0.870, abs=5e-4)
    assert np.mean([row.rivals[0] for row in PAPER.values()]) == pytest.approx(0.515, abs=1e-3)
