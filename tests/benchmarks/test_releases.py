"""Figures of a release are read from what the benchmarks have stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import releases

if TYPE_CHECKING:
    from pathlib import Path


def test_the_stored_results_have_the_figures_of_a_release() -> None:
    """A benchmark that writes its results in another form is noticed."""
    found = releases.figures(releases.FOLDER)
    assert {"alignment, times TRL", "scoring, 1 question a picture, times llava_hf"} <= set(found)
    assert all(value > 0 for value in found.values())


def test_a_figure_that_a_release_lacks_leaves_its_cell_empty(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation_overhead"
    folder.mkdir()
    rows = [{"documents": 100, "ours": 0.5}, {"documents": 2000, "ours": 1234.5}]
    (folder / "results.json").write_text(json.dumps({"evaluations": rows}))
    found = releases.figures(tmp_path)
    assert found == {"evaluation without the model, 2,000 documents, s": pytest.approx(1234.5)}
    about = {"machine": {"processor": "x"}}
    lines = releases.table({"1": about | {"figures": found}, "2": about | {"figures": {}}})
    assert "| evaluation without the model, 2,000 documents, s | 1,234 |  |" in lines
