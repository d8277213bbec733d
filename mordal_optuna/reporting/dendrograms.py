"""Dendrograms of the compared models: in which order they were merged, and where the tree is cut.

Symbols:
    s    similarity (CKA) at which two clusters are merged; the horizontal axis, 1 on the left
    t    threshold of the clustering: merges at a similarity below t are not made
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import plotly.graph_objects as go
from scipy.cluster import hierarchy

from mordal_optuna.reporting.figures import finished
from mordal_optuna.search.clusters import merges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.study.result import StudyResult

_MERGED, _APART, _CUT = "#0072B2", "#999999", "#D55E00"
# SciPy puts leaf i at 10 i + 5.
_LEAF_STEP, _LEAF_FIRST = 10, 5
# A dendrogram needs two models.
_LEAST = 2


def dendrogram_figures(result: StudyResult) -> list[go.Figure]:
    """Dendrograms of the encoders, then of the LLMs by each medoid encoder; empty without them.

    Args:
        result: result of a study.
    """
    representation = result.representation
    if representation is None:
        return []
    tree, thresholds = representation.tree, representation.tree.thresholds
    linkage = _linkage(result.config)
    drawn = [
        _dendrogram(
            tree.vision_encoders,
            representation.vision_similarity,
            thresholds.vision if thresholds else None,
            linkage,
            "Vision encoders by similarity",
        )
    ]
    for medoid, similarity in representation.llm_similarity.items():
        cut = thresholds.llms.get(medoid) if thresholds else None
        title = f"LLMs fed by {medoid}, by similarity"
        drawn.append(_dendrogram(tree.llms, similarity, cut, linkage, title))
    return [figure for figure in drawn if figure is not None]


def _linkage(config: Mapping[str, object]) -> Literal["average", "complete", "single"]:
    """The linkage that the study was clustered with; older versions had the default alone."""
    search = config.get("search")
    stored = search.get("linkage", "average") if isinstance(search, dict) else "average"
    return cast('Literal["average", "complete", "single"]', stored)


def _dendrogram(
    names: Sequence[str],
    similarity: Sequence[Sequence[float]],
    cut: float | None,
    linkage: Literal["average", "complete", "single"],
    title: str,
) -> go.Figure | None:
    matrix = np.asarray(similarity, dtype=float)
    # LLMs that were left out of the comparison have no similarities.
    known = [n for n in range(len(names)) if np.isfinite(matrix[n]).any()]
    matrix = matrix[np.ix_(known, known)]
    if len(known) < _LEAST or not np.isfinite(matrix).all():
        return None
    drawn = hierarchy.dendrogram(merges(matrix, linkage), no_plot=True)
    figure = go.Figure()
    for distances, positions in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        merged = 1.0 - max(distances)
        color = _APART if cut is not None and merged < cut else _MERGED
        figure.add_trace(
            go.Scatter(
                x=[1.0 - d for d in distances],
                y=list(positions),
                mode="lines",
                line={
                    "color": color,
                    "width": 2,
                    "dash": "dot" if color == _APART else "solid",
                },
                hovertemplate=f"merged at {merged:.2f}<extra></extra>",
                showlegend=False,
            )
        )
    leaves = [names[known[leaf]] for leaf in drawn["leaves"]]
    figure.update_yaxes(
        tickvals=[_LEAF_FIRST + _LEAF_STEP * n for n in range(len(leaves))],
        ticktext=leaves,
        range=[_LEAF_STEP * len(leaves), 0],
        showgrid=False,
        zeroline=False,
    )
    lowest = 1.0 - max(max(distances) for distances in drawn["dcoord"])
    lowest = min(lowest, cut if cut is not None else 1.0)
    figure.update_xaxes(title="similarity, CKA", range=[1.02, lowest - 0.05], zeroline=False)
    if cut is not None:
        figure.add_vline(x=cut, line={"color": _CUT, "dash": "dash", "width": 1.5})
        title = f"{title}; cut at {cut:.2f}"
    return finished(figure, title, 180 + 30 * len(leaves))
