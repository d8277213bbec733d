"""Numbers, cells, tables and prose in Markdown."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.methods import JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.minigrid.tables.bootstrap import Interval

NOT_APPLICABLE = "–"
_WIDTH = 100
# Digits and factor of each figure in a cell.
_PRINTED = {
    "tau": (3, 1.0),
    "tau_random_ties": (3, 1.0),
    "tau_top10": (3, 1.0),
    "tau_same_run": (3, 1.0),
    "regret": (2, 100.0),
    "rejected": (0, 100.0),
    "gain": (1, 1.0),
    "gain_projected": (1, 1.0),
    "cost": (2, 1.0),
}


def section(title: str, *blocks: str) -> str:
    """A section: a heading and blocks, separated by blank lines."""
    return "\n\n".join((f"## {title}", *blocks))


def prose(text: str) -> str:
    """A paragraph, wrapped at 100 columns."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """A Markdown table.

    Args:
        header: titles of the columns.
        rows: cells.
        text: number of leading columns with text; all others are numbers, aligned to the right.
    """
    rule = ["---"] * text + ["--:"] * (len(header) - text)
    lines = [list(header), rule, *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, digits: int) -> str:
    """A number with a fixed number of decimals; zero has no minus sign."""
    shown = f"{value:.{digits}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def percent(value: float, digits: int = 1) -> str:
    """A share as a number in percent."""
    return number(100 * value, digits)


def full(interval: Interval | None, figure: str) -> str:
    """A figure on the full data, of a search on the grid's own run; a dash where there is none."""
    if interval is None or interval.value is None:
        return NOT_APPLICABLE
    digits, factor = _PRINTED.get(figure, (2, 1.0))
    return number(factor * interval.value, digits)


def cell(interval: Interval | None, figure: str) -> str:
    """A figure with its interval; a dash where it does not apply.

    Of figures that compare with the truth, the mean over bootstraps is printed, to which the
    interval belongs.
    """
    if interval is None:
        return NOT_APPLICABLE
    digits, factor = _PRINTED.get(figure, (2, 1.0))
    middle = interval.mean if figure in JUDGED or interval.value is None else interval.value
    value, low, high = (number(factor * v, digits) for v in (middle, interval.low, interval.high))
    return value if low == high == value else f"{value} ({low} to {high})"
