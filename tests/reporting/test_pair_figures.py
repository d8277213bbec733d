"""Every pair is in the heatmap with its interval; the bars are the most probable pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.reporting import words
from mordal_optuna.reporting.pair_figures import best_figure, pairs_figure

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_the_heatmap_has_every_pair_with_interval_and_provenance(result: StudyResult) -> None:
    """Rows and columns in the order of their best pair; the winner alone is bold."""
    winner = result.winner.candidate
    (cells,) = pairs_figure(result.ranking, winner).data
    seen = {}
    for encoder, values, texts, hovers in zip(
        cells.y, cells.z, cells.text, cells.hovertext, strict=True
    ):
        for llm, value, text, hover in zip(cells.x, values, texts, hovers, strict=True):
            seen[encoder, llm] = (value, text, hover)
    assert len(seen) == len(result.ranking)
    for e in result.ranking:
        value, text, hover = seen[e.candidate.vision_encoder, e.candidate.llm]
        assert value == 100 * e.value
        assert words.percent(e.value) in text
        assert ("<b>" in text) == (e.candidate == winner)
        assert words.interval(e) in hover
        assert words.provenance(e) in hover
    best = max(result.ranking, key=lambda e: e.value).candidate
    assert (cells.y[0], cells.x[0]) == (best.vision_encoder, best.llm)


def test_the_bars_are_the_probabilities_most_probable_first(result: StudyResult) -> None:
    figure = best_figure(result.ranking)
    assert figure is not None
    (bars,) = figure.data
    expected = sorted((e.best or 0.0 for e in result.ranking), reverse=True)
    assert [x / 100 for x in bars.x] == expected
    assert best_figure([replace(e, best=None) for e in result.ranking]) is None
