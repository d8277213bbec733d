"""Figures for the dashboard have fixed ids and fit into their boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.dashboard_figures import HEIGHT, dashboard_figures, task_figures

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult

# Stored in users' databases.
IDS = {
    "mordal-pairs",
    "mordal-best",
    "mordal-curves",
    "mordal-ranking",
    "mordal-costs",
    "mordal-dendrogram-0",
    "mordal-dendrogram-1",
    "mordal-dendrogram-2",
    "mordal-similarity-0",
    "mordal-similarity-1",
    "mordal-similarity-2",
}


def test_ids_are_fixed_and_every_figure_fits_its_box(result: StudyResult) -> None:
    """The box has 450 pixels, and a line of the narrowest one about 40 characters."""
    found = dashboard_figures(result)
    assert found.keys() == IDS
    for figure in found.values():
        assert figure.layout.height == HEIGHT == 450
        assert max(map(len, figure.layout.title.text.split("<br>"))) <= 38
        assert len(figure.to_json()) < 20_000


def test_a_large_pool_shows_the_first_pairs(result: StudyResult) -> None:
    """The others are reached by dragging the axis; the legend names eight curves."""
    first = result.ranking[0]
    more = tuple(replace(first, candidate=Candidate(f"v{n}", "m")) for n in range(40))
    many = replace(
        result,
        ranking=(*result.ranking, *more),
        standings={**result.standings}
        | {e.candidate: result.standings[result.ranking[-1].candidate] for e in more},
        curves={**result.curves} | {e.candidate: result.curves[first.candidate] for e in more},
    )
    found = dashboard_figures(many)
    low, high = found["mordal-ranking"].layout.yaxis.range
    assert (high, high - low) == (len(many.ranking) - 0.5, 16)
    named = {t.name for t in found["mordal-curves"].data if t.name and t.showlegend}
    assert len(named) == 8
    assert "names 8 of" in found["mordal-curves"].layout.title.text.replace("<br>", " ")


def test_a_tasks_figures_show_its_own_estimates(several: StudyResult) -> None:
    task = several.tasks[1]
    (cells,) = task_figures(several, task)["mordal-pairs"].data
    best = task.best.candidate
    assert (cells.y[0], cells.x[0]) == (best.vision_encoder, best.llm)
    assert cells.z[0][0] == 100 * task.best.value
