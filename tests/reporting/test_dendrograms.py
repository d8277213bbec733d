"""Dendrograms merge what is most similar first, with the linkage of the study."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.reporting.dendrograms import dendrogram_figures
from mordal_optuna.search.clusters import Thresholds

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from mordal_optuna.study.result import StudyResult


def merged(figure: go.Figure) -> list[float]:
    """The similarity of each merge, the most similar first."""
    return sorted((min(line.x) for line in figure.data), reverse=True)


@pytest.mark.parametrize(("linkage", "second"), [("average", 0.15), ("single", 0.2)])
def test_merges_are_at_the_similarities(result: StudyResult, linkage: str, second: float) -> None:
    """.9 for clip and siglip; .2 and .1 from dino to the two."""
    figures = dendrogram_figures(replace(result, config={"search": {"linkage": linkage}}))
    assert len(figures) == 1 + 2, "encoders, and the LLMs by two medoids"
    assert merged(figures[0]) == pytest.approx([0.9, second])
    assert sorted(figures[0].layout.yaxis.ticktext) == ["clip", "dino", "siglip"]


def test_the_cut_is_drawn_where_it_was_made(result: StudyResult) -> None:
    assert result.representation
    tree = replace(result.representation.tree, thresholds=Thresholds(0.7, {"clip": 0.8}))
    compared = replace(result.representation, tree=tree)
    encoders, llms, uncut = dendrogram_figures(replace(result, representation=compared))
    assert [figure.layout.shapes[0].x0 for figure in (encoders, llms)] == [0.7, 0.8]
    assert not uncut.layout.shapes
    assert encoders.layout.title.text.endswith("cut at 0.70")


def test_models_that_were_not_compared_are_left_out(result: StudyResult) -> None:
    nan = float("nan")
    similarity = ((1.0, 0.9, nan), (0.9, 1.0, nan), (nan, nan, nan))
    assert result.representation
    compared = replace(result.representation, llm_similarity={"clip": similarity})
    _, llms = dendrogram_figures(replace(result, representation=compared))
    assert sorted(llms.layout.yaxis.ticktext) == ["llama", "qwen"]
    assert dendrogram_figures(replace(result, representation=None)) == []
