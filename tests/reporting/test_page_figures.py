"""Figures of the report: colours that a dark page replaces, and nothing by colour alone."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

from mordal_optuna.reporting.page_figures import (
    DARK,
    costs_block,
    curves_block,
    ranking_block,
    similarity_blocks,
)
from mordal_optuna.reporting.words import estimated
from tests.reporting.results import result_without_costs

if TYPE_CHECKING:
    from mordal_optuna.reporting.blocks import Figure
    from mordal_optuna.study.result import StudyResult

WHITE, BLACK = "#ffffff", "#14181c"


def figures(result: StudyResult) -> list[Figure]:
    costs = costs_block(result)
    assert costs
    return [ranking_block(result), curves_block(result), costs, *similarity_blocks(result)]


def luminance(color: str) -> float:
    parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG defines it, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_dark_page_replaces_every_colour(result: StudyResult) -> None:
    for figure in figures(result):
        used = set(re.findall(r'"(#\w{6})"', figure.figure.to_json()))
        assert used <= set(DARK)
        assert not used & set(DARK.values())


def test_texts_are_readable_on_both_pages() -> None:
    """Contrast of at least 4.5, on the page and on the cells of a heatmap; of buttons 3."""
    ink, scale = "#1c1f23", ("#f7fbff", "#c6dbef", "#6baed6")
    assert min(contrast(ink, cell) for cell in (WHITE, *scale)) >= 4.5
    assert min(contrast(DARK[ink], cell) for cell in (BLACK, *(DARK[c] for c in scale))) >= 4.5
    assert contrast("#66717d", WHITE) >= 3
    assert contrast(DARK["#66717d"], BLACK) >= 3
    marks = [c for c in DARK if c.isupper() or c in ("#000000", "#999999")]
    assert min(contrast(DARK[color], BLACK) for color in marks) >= 3


def test_no_two_curves_differ_by_colour_alone_in_llm(result: StudyResult) -> None:
    """LLMs by line style and shape; dotted lines are extrapolations alone."""
    curves = [t for t in curves_block(result).figure.data if t.mode == "lines+markers"]
    looks = {t.name.split("+<br>")[1]: (t.line.dash, t.marker.symbol) for t in curves}
    for (a, first), (b, second) in product(looks.items(), repeat=2):
        assert a == b or (first[0] != second[0] and first[1] != second[1])
    assert "dot" not in {t.line.dash for t in curves}
    dotted = [t for t in curves_block(result).figure.data if t.line.dash == "dot"]
    assert dotted
    assert all(t.mode == "lines" for t in dotted)


def test_groups_differ_in_shape_and_costs_in_pattern(result: StudyResult) -> None:
    groups = [t for t in ranking_block(result).figure.data if t.error_x.array is not None]
    shapes = [t.marker.symbol for t in groups]
    assert len(set(shapes)) == len(shapes) >= 3
    costs = costs_block(result)
    assert costs
    patterns = [bar.marker.pattern.shape for bar in costs.figure.data if bar.name != "grid"]
    assert len(set(patterns)) == len(patterns) == 5


def test_the_winners_interval_is_shaded(result: StudyResult) -> None:
    (band,) = ranking_block(result).figure.layout.shapes
    assert (band.x0, band.x1) == (100 * result.winner.low, 100 * result.winner.high)


def test_alternatives_name_the_first_pairs(result: StudyResult) -> None:
    text = ranking_block(result).alternative
    for e in result.ranking[:3]:
        assert f"{e.candidate} {estimated(e)}" in text


def test_without_costs_there_is_no_figure_of_them() -> None:
    assert costs_block(result_without_costs()[1]) is None
