"""Figures for the report and the dashboard, in the colour-blind-safe palette of Okabe and Ito."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from mordal_optuna.reporting import words
from mordal_optuna.search.standings import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.study.result import StudyResult

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "pentagon")
# Dotted lines are extrapolations.
_DASHES = ("solid", "dash", "dashdot", "longdash", "longdashdot")
_PATTERNS = ("", "/", "x", ".", "-", "\\", "|", "+")
# Light enough for dark text on every cell.
SCALE = [[0.0, "#f7fbff"], [0.5, "#c6dbef"], [1.0, "#6baed6"]]
INK = "#1c1f23"
_GROUP_COLORS = {
    "tied": "#009E73",
    "open": "#0072B2",
    "untested": "#999999",
    "worse": "#D55E00",
    "failed": "#000000",
}
_GROUP_SYMBOLS = {
    "tied": "circle",
    "open": "diamond",
    "untested": "circle-open",
    "worse": "square-open",
    "failed": "x",
}
_GROUP_NAMES = {
    "tied": "within noise",
    "open": "may be the best",
    "untested": "hardly tested",
    "worse": "worse",
    "failed": "given up",
}


def curves_figure(result: StudyResult) -> go.Figure:
    """Error against samples on logarithmic axes, with fitted curves extrapolated to D."""
    figure = go.Figure()
    for candidate, points in result.curves.items():
        trace = _curve(
            result,
            candidate,
            [point.samples for point in points],
            [float(np.exp(point.log_error)) for point in points],
            [point.stderr or 0.0 for point in points],
        )
        figure.add_trace(trace)
        _add_extrapolation(figure, result, candidate, trace.line.color)
    _label_samples(figure, result)
    figure.update_yaxes(type="log", title="error (1 - score)")
    return finished(figure, "Learning curves; dotted: extrapolated to the full alignment set", 520)


def likelihood_figure(result: StudyResult) -> go.Figure | None:
    """-ln p of the reference answers against samples; None if it was never measured."""
    figure = go.Figure()
    for candidate, every in result.curves.items():
        points = [(m, m.nll, m.nll_stderr or 0.0) for m in every if m.nll is not None]
        if points:
            measured, values, errors = zip(*points, strict=True)
            samples = [m.samples for m in measured]
            figure.add_trace(_curve(result, candidate, samples, list(values), list(errors)))
    if not figure.data:
        return None
    _label_samples(figure, result)
    figure.update_yaxes(type="log", title="mean -ln p of the reference answer, nats")
    return finished(figure, "Likelihood of the reference answers; lower is better", 520)


def _curve(
    result: StudyResult,
    candidate: Candidate,
    samples: Sequence[int],
    values: Sequence[float],
    errors: Sequence[float],
) -> go.Scatter:
    look = _look(candidate, *_names(result))
    return go.Scatter(
        x=samples,
        y=values,
        error_y={"type": "data", "array": errors},
        name=str(candidate),
        legendgroup=str(candidate),
        mode="lines+markers",
        marker={"color": look["color"], "symbol": look["symbol"], "size": 8},
        line={
            "color": look["color"],
            "dash": look["dash"],
            "width": 4 if candidate == result.winner.candidate else 1.5,
        },
    )


def _label_samples(figure: go.Figure, result: StudyResult) -> None:
    rungs = {point.samples for points in result.curves.values() for point in points}
    ticks = sorted({*rungs, result.full_samples})
    figure.update_xaxes(
        type="log",
        title="alignment samples",
        tickvals=ticks,
        ticktext=[f"{tick:,}" for tick in ticks],
    )


def ranking_figure(result: StudyResult) -> go.Figure:
    """Estimates with intervals, by group in colour and shape, and measured scores.

    A band is shaded where the winner's estimate is expected.
    """
    figure, winner = go.Figure(), result.winner
    if winner.provenance != "none":
        figure.add_vrect(
            x0=100 * winner.low,
            x1=100 * winner.high,
            fillcolor=_GROUP_COLORS["tied"],
            opacity=0.12,
            line_width=0,
            layer="below",
        )
    for group in GROUPS:
        estimates = [e for e in result.group(group) if e.provenance != "none"]
        if not estimates:
            continue
        figure.add_trace(
            go.Scatter(
                x=[100 * e.value for e in estimates],
                y=[str(e.candidate) for e in estimates],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (e.high - e.value) for e in estimates],
                    "arrayminus": [100 * (e.value - e.low) for e in estimates],
                },
                text=[words.provenance(e) for e in estimates],
                name=_GROUP_NAMES[group],
                mode="markers",
                marker={
                    "color": _GROUP_COLORS[group],
                    "symbol": _GROUP_SYMBOLS[group],
                    "size": 10,
                },
            )
        )
    figure.add_trace(_measured_scores(result))
    order = [str(e.candidate) for e in reversed(result.ranking) if e.provenance != "none"]
    figure.update_yaxes(categoryorder="array", categoryarray=order, title=None)
    figure.update_xaxes(title=f"score on {result.task} after the full alignment, %")
    height = 180 + 26 * len(result.ranking)
    title = "Ranking of the pool: estimates; crosses: measured scores, at each pair's highest rung"
    return finished(figure, title, height)


def _measured_scores(result: StudyResult) -> go.Scatter:
    shown = [e for e in result.ranking if e.candidate in result.curves]
    return go.Scatter(
        x=[100 * result.curves[e.candidate][-1].score for e in shown],
        y=[str(e.candidate) for e in shown],
        text=[words.last_score(result, e) for e in shown],
        name="measured",
        mode="markers",
        marker={"color": "#000000", "size": 9, "symbol": "x-thin-open"},
    )


def similarity_figures(result: StudyResult) -> list[go.Figure]:
    """Heatmaps of CKA, ordered by cluster: encoders, then LLMs by each medoid encoder."""
    representation = result.representation
    if representation is None:
        return []
    tree = representation.tree
    order = list(dict.fromkeys(v for c in tree.clusters for v in c.vision.members))
    matrix = np.asarray(representation.vision_similarity)
    figures = [
        _heatmap(
            matrix, tree.vision_encoders, order, "CKA of vision encoders on the task's images"
        )
    ]
    for medoid, similarity in representation.llm_similarity.items():
        clusters = [c for c in tree.clusters if c.vision.medoid == medoid]
        llm_order = [m for cluster in clusters for m in cluster.llm.members]
        title = f"CKA of LLMs fed with embeddings of {medoid}"
        figures.append(_heatmap(np.asarray(similarity), tree.llms, llm_order, title))
    return figures


def costs_figure(result: StudyResult) -> go.Figure | None:
    """Costs of the search by part, and of the grid, in full-run equivalents.

    None if the cost of a full run is not known.
    """
    if result.full_runs is None:
        return None
    figure = go.Figure()
    looks = zip(_COLORS, _PATTERNS, strict=True)
    for (label, seconds), (color, pattern) in zip(
        words.cost_parts(result.costs), looks, strict=False
    ):
        figure.add_trace(
            go.Bar(
                x=[result.in_full_runs(seconds)],
                y=[result.method],
                name=label,
                orientation="h",
                marker={
                    "color": color,
                    "pattern": {"shape": pattern, "fillmode": "replace", "solidity": 0.5},
                },
            )
        )
    if result.method != "grid":
        figure.add_trace(
            go.Bar(
                x=[result.grid_runs],
                y=["grid"],
                name="grid",
                orientation="h",
                marker={"color": _COLORS[7]},
            )
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="full-run equivalents")
    return finished(figure, "Cost", 260)


def _names(result: StudyResult) -> tuple[list[str], list[str]]:
    candidates = sorted(estimate.candidate for estimate in result.ranking)
    encoders = list(dict.fromkeys(c.vision_encoder for c in candidates))
    return encoders, list(dict.fromkeys(c.llm for c in candidates))


def _look(candidate: Candidate, encoders: Sequence[str], llms: Sequence[str]) -> dict[str, str]:
    encoder, llm = encoders.index(candidate.vision_encoder), llms.index(candidate.llm)
    return {
        "color": _COLORS[encoder % len(_COLORS)],
        "symbol": _SYMBOLS[llm % len(_SYMBOLS)],
        "dash": _DASHES[llm % len(_DASHES)],
    }


def _add_extrapolation(
    figure: go.Figure, result: StudyResult, candidate: Candidate, color: str
) -> None:
    fit, points = result.fits.get(candidate), result.curves[candidate]
    if fit is None or points[-1].samples >= result.full_samples:
        return
    ends = [points[-1].samples, result.full_samples]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=[float(np.exp(fit.log_error(samples)[0])) for samples in ends],
            mode="lines",
            line={"color": color, "dash": "dot", "width": 1.5},
            legendgroup=str(candidate),
            showlegend=False,
            hoverinfo="skip",
        )
    )


def _heatmap(
    matrix: np.ndarray, names: Sequence[str], order: Sequence[str], title: str
) -> go.Figure:
    index = [list(names).index(name) for name in order]
    values = matrix[np.ix_(index, index)]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(order),
            y=list(order),
            text=[[f"{value:.2f}" for value in row] for row in values],
            texttemplate="%{text}",
            textfont={"color": INK},
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            colorbar={"title": "CKA"},
        )
    )
    figure.update_yaxes(autorange="reversed")
    return finished(figure, title, 180 + 44 * len(order))


def few_named(figure: go.Figure, result: StudyResult, most: int) -> go.Figure:
    """Name in the legend the curves of the first pairs of the ranking; the pointer names all.

    Args:
        figure: figure with a trace for each trained pair, under its name.
        result: the result that it shows.
        most: number of pairs to name.
    """
    ranked = [str(e.candidate) for e in result.ranking if e.candidate in result.curves]
    first = set(ranked[:most])
    for trace in figure.data:
        if trace.name:
            trace.showlegend = trace.name in first
    if len(ranked) > most:
        figure.layout.title.text += f"; the legend names {most} of {len(ranked)} pairs"
    return figure


def finished(figure: go.Figure, title: str, height: int) -> go.Figure:
    """Title, fonts and margins that all figures share; the height is in pixels."""
    figure.update_layout(
        title={"text": title, "font": {"size": 16}},
        template="plotly_white",
        height=height,
        margin={"l": 20, "r": 20, "t": 60, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    figure.update_yaxes(automargin=True)
    return figure
