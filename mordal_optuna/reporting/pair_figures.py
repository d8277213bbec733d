"""Figures of all pairs: a heatmap of the estimates, and the probabilities of being the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting import words
from mordal_optuna.reporting.figures import INK, SCALE, finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.ranking import Estimate

# Encoders or LLMs up to which the cells of the heatmap hold the interval beside the estimate.
_WITH_INTERVAL = 5
# Pairs whose probability of being the best is drawn.
_BARS = 12


def pairs_figure(
    ranking: Sequence[Estimate], winner: Candidate, title: str = "Estimates of all pairs, %"
) -> go.Figure:
    """Heatmap of the estimates after all samples, encoders x LLMs, the winner in bold.

    The best encoder is the first row and the best LLM the first column, by their best pair. The
    interval is in the cells of small pools, and always, with the provenance, under the pointer.

    Args:
        ranking: estimates of all pairs; the cell of a pair without one stays empty.
        winner: pair that is marked.
        title: title of the figure.
    """
    of = {e.candidate: e for e in ranking if e.provenance != "none"}
    by_value = sorted(ranking, key=lambda e: -e.value)
    encoders = list(dict.fromkeys(e.candidate.vision_encoder for e in by_value))
    llms = list(dict.fromkeys(e.candidate.llm for e in by_value))
    cells = [[of.get(Candidate(v, m)) for m in llms] for v in encoders]
    small = max(len(encoders), len(llms)) <= _WITH_INTERVAL
    figure = go.Figure(
        go.Heatmap(
            z=[[100 * e.value if e else None for e in row] for row in cells],
            x=llms,
            y=encoders,
            text=[[e and _cell(e, winner, interval=small) for e in row] for row in cells],
            texttemplate="%{text}",
            textfont={"color": INK},
            hovertext=[[e and _hover(e) for e in row] for row in cells],
            hovertemplate="%{hovertext}<extra></extra>",
            colorscale=SCALE,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(title="LLM", type="category", showgrid=False)
    figure.update_yaxes(title="vision encoder", type="category", autorange="reversed")
    return finished(figure, title, 180 + 44 * len(encoders))


def best_figure(ranking: Sequence[Estimate]) -> go.Figure | None:
    """Probability of being the best, of the pairs for which it is highest.

    None if it was not computed.

    Args:
        ranking: estimates of all pairs.
    """
    known = sorted((e for e in ranking if e.best is not None), key=lambda e: -(e.best or 0.0))
    shown = known[:_BARS]
    if not shown:
        return None
    figure = go.Figure(
        go.Bar(
            x=[100 * (e.best or 0.0) for e in shown],
            y=[str(e.candidate) for e in shown],
            text=[words.best_percent(e) for e in shown],
            textposition="auto",
            hovertext=[_hover(e) for e in shown],
            hovertemplate="%{hovertext}<extra></extra>",
            orientation="h",
            marker={"color": "#56B4E9"},
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title="probability, %", rangemode="tozero")
    of = f": {len(shown)} of {len(ranking)} pairs" if len(shown) < len(ranking) else ""
    return finished(figure, f"Probability of being the best pair{of}", 180 + 26 * len(shown))


def _cell(estimate: Estimate, winner: Candidate, *, interval: bool) -> str:
    value = words.percent(estimate.value)
    text = f"<b>{value}</b>" if estimate.candidate == winner else value
    if not interval:
        return text
    # Short, since plotly shrinks the text of all cells to the longest line.
    return f"{text}<br>{100 * estimate.low:.0f}\N{EN DASH}{100 * estimate.high:.0f}"


def _hover(estimate: Estimate) -> str:
    lines = [
        f"<b>{estimate.candidate}</b>",
        f"estimate {words.percent(estimate.value)} %",
        f"interval {words.interval(estimate)} %",
        words.provenance(estimate),
    ]
    if estimate.best is not None:
        lines.append(f"best with probability {words.best_percent(estimate)} %")
    return "<br>".join(lines)
