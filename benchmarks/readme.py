"""Write the figure and the tables of README and docs/budget.md, from committed results alone.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.readme

The table of README is the mean over the tasks of the minigrid in `minigrid/results.json`; that of
docs/budget.md is `mordal_optuna/planning/regret.json`. Each stands between two comments, of which
the first names its source. The figure is a replay of `mordal` on one of the minigrid's grid files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mordal_optuna.replay.grid import Grid, read_grid
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up

ROOT = Path(__file__).parents[1]
README, BUDGET = ROOT / "README.md", ROOT / "docs" / "budget.md"
FIGURE = ROOT / "docs" / "figures" / "ranking.svg"
RESULTS = ROOT / "benchmarks" / "minigrid" / "results.json"
REGRET = ROOT / "mordal_optuna" / "planning" / "regret.json"
GRID = ROOT / "benchmarks" / "minigrid" / "grids" / "ai2d.json"
# Rows of the README's table: the method, and what it is called.
METHODS = {
    "mordal": "`mordal`, this package's default",
    "all-at-ratio": "every pair on 1/8 of the data",
    "optuna-tpe-hyperband": "Optuna's TPE and Hyperband",
    "grid": "every pair on all data (the grid)",
}
BUDGETS = ("1", "2", "3", "4", "6", "8", "12")
_END = "<!-- end of figures -->"

# Pairs that the figure shows; size of a row and its margins in pixels; scores at its left and
# right edge, in percent.
_SHOWN = 14
_ROW, _LEFT, _TOP, _WIDTH = 22, 236, 52, 520
_LOW, _HIGH = 0.0, 80.0


def numbers(results: dict[str, Any]) -> str:
    """The README's table: four numbers of each method.

    Args:
        results: content of the minigrid's results.
    """
    rows = []
    for method, title in METHODS.items():
        found = results["mean"][method]
        regret = found["regret"]
        cost, tau = found["cost"]["total"]["value"], found["tau"]["value"]
        rows.append(
            f"| {title} | {cost:.1f} | {100 * regret['value']:.1f} | {100 * regret['mean']:.1f} "
            f"| {tau:.2f} |"
        )
    head = "| | full runs | points lost | with other documents and seeds | weighted tau |"
    return "\n".join((head, "|---|--:|--:|--:|--:|", *rows))


def budgets(table: dict[str, Any]) -> str:
    """The table of docs/budget.md: regret by budget, pool and method.

    Args:
        table: content of the regret table that `mordal plan` shows.
    """
    rows = [f"| pool | method | {' | '.join(BUDGETS)} |", f"|---|---|{'--:|' * len(BUDGETS)}"]
    pools = {f"{size} drawn": methods for size, methods in table["drawn"].items()}
    for pool, methods in (pools | {"7 x 7 minigrid": table["minigrid"]}).items():
        for method, by_budget in methods.items():
            cells = [
                f"{by_budget[n]['regret']:.1f} ± {by_budget[n]['half']:.1f}"
                if n in by_budget
                else ""
                for n in BUDGETS
            ]
            rows.append(f"| {pool} | `{method}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def filled(text: str, source: Path, table: str) -> str:
    """A page with a table between the comment that names its source and the closing one.

    Args:
        text: the page.
        source: file that the comment names.
        table: the table.
    """
    name = re.escape(str(source.relative_to(ROOT)))
    pattern = rf"(<!-- figures: {name},[^>]*-->\n).*?{_END}"
    return re.sub(pattern, lambda found: f"{found[1]}\n{table}\n\n{_END}", text, flags=re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A pair of the figure; scores and interval in percent.

    Attributes:
        pair: the pair.
        value: estimate after all samples.
        low: lower end of its interval.
        high: upper end of its interval.
        trained: share of the samples that it was trained on; 0 if it was not.
        truth: its score after all samples, which the search has not seen.
    """

    pair: str
    value: float
    low: float
    high: float
    trained: float
    truth: float


def ranking(grid: Grid, seed: int = 0) -> tuple[list[Row], float]:
    """The first pairs of a search's ranking, and what it trained in full runs.

    Args:
        grid: grid with the scores of all pairs.
        seed: random seed of the search.
    """
    setup = set_up(grid, "mordal", method_settings("mordal"), seed, None)
    history = run_light(setup.plan, grid).history
    estimates = setup.plan.ranking(history)
    winner = setup.plan.winner(history)
    ordered = sorted(estimates, key=lambda e: (e.candidate != winner, -e.value))
    rows = [
        Row(
            str(e.candidate),
            100 * e.value,
            100 * e.low,
            100 * e.high,
            history.of(e.candidate).top / grid.full_samples,
            100 * grid.truth(e.candidate),
        )
        for e in ordered[:_SHOWN]
    ]
    trained = sum(history.of(c).top for c in grid.candidates) / grid.full_samples
    return rows, trained


def drawn(rows: list[Row], title: str) -> str:
    """The ranking as SVG.

    Args:
        rows: pairs, the winner first.
        title: what is shown.
    """
    bottom = _TOP + _ROW * len(rows)
    width, height = _LEFT + _WIDTH + 84, bottom + 70
    ticks = range(int(_LOW), int(_HIGH) + 1, 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{title}</title>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15" font-weight="bold">{title}</text>',
        f'<text x="{_LEFT + _WIDTH + 72}" y="{_TOP - 8}" text-anchor="end">trained on</text>',
    ]
    for tick in ticks:
        x = _x(tick)
        parts += [
            f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}" stroke="#ddd"/>',
            f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick} %</text>',
        ]
    parts += [line for number, row in enumerate(rows) for line in _row(number, row)]
    parts += _legend(bottom + 50)
    return "\n".join((*parts, "</svg>\n"))


def _x(percent: float) -> str:
    share = (min(max(percent, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW)
    return f"{_LEFT + _WIDTH * share:.1f}"


def _row(number: int, row: Row) -> list[str]:
    y = _TOP + _ROW * (number + 0.5)
    weight = ' font-weight="bold"' if number == 0 else ""
    share = f"1/{round(1 / row.trained)}" if row.trained else "nothing"
    return [
        f'<text x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end"{weight}>{row.pair}</text>',
        _interval(row.low, row.high, y, measured=row.trained > 0),
        _dot(_x(row.value), y, measured=row.trained > 0),
        _cross(_x(row.truth), y),
        f'<text x="{_LEFT + _WIDTH + 72}" y="{y + 4:.1f}" text-anchor="end">{share}</text>',
    ]


def _interval(low: float, high: float, y: float, *, measured: bool) -> str:
    dashes = "" if measured else ' stroke-dasharray="4 3"'
    return (
        f'<line x1="{_x(low)}" y1="{y:.1f}" x2="{_x(high)}" y2="{y:.1f}" stroke="#08519c" '
        f'stroke-width="2"{dashes}/>'
    )


def _dot(x: str, y: float, *, measured: bool) -> str:
    fill = "#08519c" if measured else "white"
    return f'<circle cx="{x}" cy="{y:.1f}" r="5" fill="{fill}" stroke="#08519c" stroke-width="2"/>'


def _cross(x: str, y: float) -> str:
    return (
        f'<path d="M{float(x) - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="#b2440e" '
        'stroke-width="2"/>'
    )


def _legend(y: int) -> list[str]:
    words = (
        (_dot("20", y - 4, measured=True), "estimate, 95 % interval"),
        (_dot("216", y - 4, measured=False), "the same, never trained"),
        (_cross("420", y - 4), "score after all samples, which the search never saw"),
    )
    return [
        f'{mark}<text x="{x}" y="{y}">{text}</text>'
        for (mark, text), x in zip(words, (34, 230, 434), strict=True)
    ]


def figure() -> str:
    """The README's figure."""
    rows, trained = ranking(read_grid(GRID))
    title = f"The first {len(rows)} of 49 pairs on AI2D, after {trained:.1f} full runs of training"
    return drawn(rows, title)


def main() -> None:
    """Write the figure and both tables."""
    FIGURE.write_text(figure(), encoding="utf-8")
    for page, source, table in (
        (README, RESULTS, numbers(json.loads(RESULTS.read_text(encoding="utf-8")))),
        (BUDGET, REGRET, budgets(json.loads(REGRET.read_text(encoding="utf-8")))),
    ):
        page.write_text(filled(page.read_text(encoding="utf-8"), source, table), encoding="utf-8")


if __name__ == "__main__":
    main()
