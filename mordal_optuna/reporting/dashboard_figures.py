"""The figures of a result for a study's page in optuna-dashboard, by their fixed ids.

The page gives every figure a box of 450 pixels height and half of the window's width, and does not
clip what is higher. A figure here fits into the box at any width: short lines in the title, below
the buttons that plotly shows in the corner; the legend below the axes; long lists cut.
"""

from __future__ import annotations

from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mordal_optuna.reporting import figures
from mordal_optuna.reporting.dendrograms import dendrogram_figures
from mordal_optuna.reporting.pair_figures import best_figure, pairs_figure

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.study.task_results import TaskResult

HEIGHT = 450
# Characters of a line of a title, rows of the ranking, and curves named in the legend.
_LINE, _AXIS_LINE = 38, 30
_ROWS = 16
_NAMED = 8
# Sizes in pixels.
_BUTTONS, _TITLE_LINE, _BOTTOM = 46, 19, 50


def dashboard_figures(result: StudyResult) -> dict[str, go.Figure]:
    """All figures of a result that has what they show.

    Args:
        result: result of a finished or unfinished study.

    Returns:
        The figures by their ids, which never change.
    """
    found = {
        "mordal-pairs": pairs_figure(result.ranking, result.winner.candidate),
        "mordal-best": best_figure(result.ranking),
        "mordal-curves": figures.few_named(figures.curves_figure(result), result, _NAMED),
        "mordal-ranking": _first_rows(figures.ranking_figure(result), len(result.ranking)),
        "mordal-costs": figures.costs_figure(result),
        "mordal-likelihood": _likelihoods(result),
    }
    for number, figure in enumerate(dendrogram_figures(result)):
        found[f"mordal-dendrogram-{number}"] = figure
    for number, figure in enumerate(figures.similarity_figures(result)):
        found[f"mordal-similarity-{number}"] = figure
    return {name: _fitted(figure) for name, figure in found.items() if figure is not None}


def task_figures(result: StudyResult, task: TaskResult) -> dict[str, go.Figure]:
    """The figures of one of several tasks, for the page of that task's study.

    Args:
        result: result of the study of all tasks.
        task: the task.
    """
    own = replace(
        result, task=task.name, ranking=task.ranking, winner=task.best, curves=task.curves, fits={}
    )
    pairs = pairs_figure(task.ranking, task.best.candidate, f"Estimates on {task.name}, %")
    found = {
        "mordal-pairs": pairs,
        "mordal-best": best_figure(task.ranking),
        "mordal-curves": figures.few_named(figures.curves_figure(own), own, _NAMED),
        "mordal-likelihood": _likelihoods(own),
    }
    return {name: _fitted(figure) for name, figure in found.items() if figure is not None}


def _likelihoods(result: StudyResult) -> go.Figure | None:
    figure = figures.likelihood_figure(result)
    return figure and figures.few_named(figure, result, _NAMED)


def _first_rows(figure: go.Figure, pairs: int) -> go.Figure:
    """Show the first rows of the ranking; the others are reached by dragging the axis."""
    if pairs > _ROWS:
        figure.update_yaxes(range=[pairs - _ROWS - 0.5, pairs - 0.5])
        figure.layout.title.text += f"; first {_ROWS} of {pairs} pairs, drag the axis for more"
    return figure


def _fitted(figure: go.Figure) -> go.Figure:
    """Fit a figure into its box, without the template of the report, which is long to store."""
    title = "<br>".join(wrap(figure.layout.title.text, _LINE))
    top = _BUTTONS + _TITLE_LINE * (title.count("<br>") + 1) + 8
    figure.update_layout(
        template=_PLAIN,
        height=HEIGHT,
        title={
            "text": title,
            "font": {"size": 14},
            "x": 0.02,
            "xanchor": "left",
            "y": 1 - _BUTTONS / HEIGHT,
            "yanchor": "top",
        },
        margin={"l": 10, "r": 10, "t": top, "b": _BOTTOM},
        font={"size": 11},
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0.0,
            "yanchor": "bottom",
            "x": 0.0,
            "font": {"size": 10},
        },
    )
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        text = "<br>".join(wrap(axis.title.text or "", _AXIS_LINE))
        axis.update(automargin=True, title={"text": text, "standoff": 6})
    return figure


_GRID = {"gridcolor": "#e5e9ee", "linecolor": "#e5e9ee", "zerolinecolor": "#e5e9ee"}
_PLAIN = go.layout.Template(
    layout={"xaxis": _GRID, "yaxis": _GRID, "paper_bgcolor": "white", "plot_bgcolor": "white"}
)
