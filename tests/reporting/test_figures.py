"""Figures show every measured point and every pair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.reporting import figures
from tests.reporting.results import result_without_costs
from tests.search.synthetic import ENCODERS, LLMS

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_figures_hold_every_point_and_every_pair(result: StudyResult) -> None:
    curves = figures.curves_figure(result)
    points = {
        (trace.name, samples)
        for trace in curves.data
        if trace.name and trace.mode == "lines+markers"
        for samples in trace.x
    }
    expected = {(str(c), p.samples) for c, measured in result.curves.items() for p in measured}
    assert points == expected
    ranked = [name for trace in figures.ranking_figure(result).data for name in trace.y]
    pairs = [f"{encoder} + {llm}" for encoder in ENCODERS for llm in LLMS]
    assert sorted(ranked) == sorted([*pairs, *map(str, result.curves)])
    assert len(figures.similarity_figures(result)) == 3


def test_the_likelihood_is_shown_where_it_was_measured(result: StudyResult) -> None:
    """One trace for each candidate with measured likelihoods."""
    assert figures.likelihood_figure(result) is None
    some = dict(list(result.curves.items())[:2])
    first = next(iter(some))
    some[first] = tuple(replace(m, nll=2.0, nll_stderr=0.1) for m in some[first])
    shown = figures.likelihood_figure(replace(result, curves=some))
    assert shown
    (trace,) = shown.data
    assert trace.name == str(first)
    assert list(trace.y) == [2.0] * len(some[first])


def test_heatmaps_are_ordered_by_cluster_with_their_values(result: StudyResult) -> None:
    heatmap = figures.similarity_figures(result)[0].data[0]
    assert list(heatmap.x) == ["clip", "siglip", "dino"]
    assert heatmap.z[0][1] == 0.9


def test_unknown_costs_have_no_figure(result: StudyResult) -> None:
    assert figures.costs_figure(result) is not None
    assert figures.costs_figure(result_without_costs()[1]) is None


def test_the_costs_figure_has_a_bar_for_each_part_and_the_grid(result: StudyResult) -> None:
    """In full-run equivalents, which add up to the cost of the search."""
    figure = figures.costs_figure(result)
    assert figure is not None
    bars = {trace.name: trace.x[0] for trace in figure.data}
    names = ["features", "similarity", "warm-up", "training", "evaluation", "grid"]
    assert list(bars) == names
    assert sum(bars[name] for name in names[:-1]) == pytest.approx(result.full_runs)
    assert bars["grid"] == result.grid_runs
