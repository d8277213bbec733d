"""The README's figure and tables: made from committed results, small, and well-formed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.readme import (
    BUDGETS,
    FIGURE,
    GRID,
    METHODS,
    REGRET,
    ROOT,
    Row,
    budgets,
    drawn,
    filled,
    numbers,
    ranking,
)
from mordal_optuna.replay.grid import read_grid
from mordal_optuna.replay.run import replay

SVG = "{http://www.w3.org/2000/svg}"


def test_the_figure_shows_the_winner_first_with_what_the_search_never_saw() -> None:
    grid = read_grid(GRID)
    rows, trained = ranking(grid)
    assert rows[0].pair == " + ".join(replay(grid, "mordal").picked)
    assert 0 < trained < 49
    assert all(row.low <= row.value <= row.high for row in rows)
    assert {row.trained > 0 for row in rows} == {True, False}
    truth = {str(c): 100 * grid.truth(c) for c in grid.candidates}
    assert all(row.truth == truth[row.pair] for row in rows)


def test_measured_and_estimated_pairs_differ_by_more_than_colour() -> None:
    """Dots are filled and lines are whole where a pair was trained."""
    rows = [Row("a + b", 60, 50, 70, 0.5, 61), Row("c + d", 50, 10, 75, 0.0, 40)]
    tree = ElementTree.fromstring(drawn(rows, "title"))
    dots = [dot.get("fill") for dot in tree.iter(f"{SVG}circle")][:2]
    assert dots == ["#08519c", "white"]
    thick = [line for line in tree.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    assert [line.get("stroke-dasharray") for line in thick] == [None, "4 3"]
    words = [element.text for element in tree.iter(f"{SVG}text")]
    assert {"a + b", "1/2", "nothing"} <= set(words)
    assert tree.findtext(f"{SVG}title") == "title"


def test_the_committed_figure_is_small_and_complete() -> None:
    tree = ElementTree.parse(FIGURE).getroot()
    assert FIGURE.stat().st_size < 200_000
    assert len(list(tree.iter(f"{SVG}path"))) == 14 + 1


def test_the_table_has_four_numbers_of_each_method() -> None:
    found = {
        "regret": {"value": 0.0147, "mean": 0.0413},
        "cost": {"total": {"value": 4.01}},
        "tau": {"value": 0.646},
    }
    lines = numbers({"mean": dict.fromkeys(METHODS, found)}).splitlines()
    assert len(lines) == 2 + len(METHODS)
    assert all(line.endswith("| 4.0 | 1.5 | 4.1 | 0.65 |") for line in lines[2:])


def test_a_budget_that_was_not_replayed_leaves_its_cell_empty() -> None:
    one = {"mordal": {"1": {"regret": 0.55, "half": 0.54, "best": 0.7}}}
    lines = budgets({"drawn": {"2 x 2": one}, "minigrid": one}).splitlines()
    assert lines[2] == "| 2 x 2 drawn | `mordal` | 0.6 ± 0.5 |" + "  |" * (len(BUDGETS) - 1)
    assert lines[3].startswith("| 7 x 7 minigrid |")


def test_a_table_replaces_what_stands_between_its_comments() -> None:
    name = REGRET.relative_to(ROOT)
    page = f"a\n<!-- figures: {name}, by x -->\nold\n<!-- end of figures -->\nb"
    once = filled(page, REGRET, "new")
    assert "old" not in once
    assert "\n\nnew\n\n" in once
    assert filled(once, REGRET, "new") == once
    assert filled(page, Path(ROOT / "other.json"), "new") == page
