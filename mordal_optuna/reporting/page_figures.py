"""Figures of the report: drawn by the page itself, in its colours, at its width.

The caption of a figure is text of the page, so that it is never below plotly's buttons, wraps in a
narrow window, and is read aloud. All colours of a figure are those of `DARK`, which the page
replaces if the reader prefers a dark scheme.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mordal_optuna.reporting import words
from mordal_optuna.reporting.blocks import Figure
from mordal_optuna.reporting.figures import (
    costs_figure,
    curves_figure,
    few_named,
    likelihood_figure,
    ranking_figure,
    similarity_figures,
)

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult

# Every colour of a figure, and the one in its place on a dark page.
DARK = {
    "#0072B2": "#4DA8DA",
    "#D55E00": "#F08A4B",
    "#009E73": "#3CC79B",
    "#CC79A7": "#E3A0C6",
    "#E69F00": "#F2B63C",
    "#56B4E9": "#9BD3F5",
    "#000000": "#FFFFFF",
    "#999999": "#B3B3B3",
    "#1c1f23": "#e6e9ec",
    "#66717d": "#9aa6b1",
    "#dde2e7": "#3a424b",
    "#f7fbff": "#15212c",
    "#c6dbef": "#1c4260",
    "#6baed6": "#255f88",
}
_INK, _SOFT, _GRID = "#1c1f23", "#66717d", "#dde2e7"
# Pixels for plotly's buttons, and pixels a line of the legend.
_BUTTONS = 34
# Characters of a line of an axis' title, and of a pair's name.
_AXIS_LINE, _NAME_LINE = 24, 22
# Curves that the legend names; the table below the figure has all.
_NAMED = 8


def ranking_block(result: StudyResult) -> Figure:
    """The ranking, with the numbers of the first pairs as its alternative."""
    first = "; ".join(
        f"{e.candidate} {words.estimated(e)}" for e in result.ranking[:3] if e.provenance != "none"
    )
    figure = _fitted(ranking_figure(result))
    labels = [_label(str(e.candidate)) for e in result.ranking]
    figure.update_yaxes(tickvals=[str(e.candidate) for e in result.ranking], ticktext=labels)
    lines = max(label.count("<br>") + 1 for label in labels)
    figure.update_layout(height=190 + (8 + 15 * lines) * len(labels))
    text = (
        f"Estimates of {len(result.ranking)} pairs with their intervals, in %, best first: "
        f"{first}. The table of the ranking has all of them."
    )
    return Figure(figure, text)


def curves_block(result: StudyResult) -> Figure:
    """Learning curves; the alternative names the winner's first and last score."""
    points = result.curves[result.winner.candidate]
    text = (
        f"Error, 1 - score, of {len(result.curves)} trained pairs against the number of alignment "
        f"samples. The winner's score goes from {words.percent(points[0].score)} % at "
        f"{points[0].samples:,} samples to {words.percent(points[-1].score)} % at "
        f"{points[-1].samples:,}. The table of scores has all points."
    )
    return Figure(_fitted(few_named(curves_figure(result), result, _NAMED)), text)


def likelihood_block(result: StudyResult) -> Figure | None:
    """Likelihoods of the reference answers; None if they were never measured."""
    figure = likelihood_figure(result)
    if figure is None:
        return None
    known = [m for m in result.curves[result.winner.candidate] if m.nll is not None]
    of_winner = (
        f" The winner's falls from {known[0].nll:.2f} to {known[-1].nll:.2f}." if known else ""
    )
    text = f"Mean -ln p of the reference answers of each pair at each rung, in nats.{of_winner}"
    return Figure(_fitted(few_named(figure, result, _NAMED)), text)


def costs_block(result: StudyResult) -> Figure | None:
    """Costs by part, beside the grid's; None if the cost of a full run is not known."""
    figure = costs_figure(result)
    if figure is None:
        return None
    return Figure(_fitted(figure), f"Bars of the costs. {words.cost_sentence(result)}")


def similarity_blocks(result: StudyResult) -> list[Figure]:
    """Heatmaps of the models' similarities."""
    text = "A heatmap whose cells hold the similarities; the table below has the same numbers."
    return [Figure(_fitted(figure), text) for figure in similarity_figures(result)]


def _fitted(figure: go.Figure) -> go.Figure:
    """Room for plotly's buttons above and the legend below; the page has title and colours."""
    figure.update_layout(
        template=_PLAIN,
        margin={"l": 8, "r": 8, "t": _BUTTONS, "b": 48},
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0.0},
        font={"family": "system-ui, sans-serif", "size": 12, "color": _INK},
        hoverlabel={"namelength": -1},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _SOFT, "activecolor": _INK},
        autosize=True,
    )
    figure.update_traces(showscale=False, selector={"type": "heatmap"})
    title = "<br>".join(wrap(figure.layout.xaxis.title.text or "", _AXIS_LINE))
    for trace in figure.data:
        if trace.name and " + " in trace.name:
            trace.name = _label(trace.name)
    figure.update_xaxes(automargin=True, title={"text": title, "standoff": 6})
    return figure


def _label(pair: str) -> str:
    """A pair's name in lines that leave room for the figure in a narrow window."""
    encoder, _, llm = pair.partition(" + ")
    return "<br>".join([*wrap(f"{encoder} +", _NAME_LINE), *wrap(llm, _NAME_LINE)])


_AXIS = {"gridcolor": _GRID, "linecolor": _GRID, "zerolinecolor": _GRID}
_PLAIN = go.layout.Template(
    layout={
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
)
