"""The HTML report: one file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mordal_optuna.files.atomic import atomic_write
from mordal_optuna.reporting import figures, words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import plotly.graph_objects as go

    from mordal_optuna.study.result import StudyResult


def write_report(
    result: StudyResult,
    path: Path,
    *,
    dashboard_command: str,
    versions: Mapping[str, str],
) -> Path:
    """Write the report, replacing an older one in one step.

    Args:
        result: of any method, finished or not.
        path: of the HTML file; its folder must exist.
        dashboard_command: the line that opens optuna-dashboard on the study.
        versions: of the libraries that were used.

    Returns:
        The path.
    """
    environment = Environment(
        loader=PackageLoader("mordal_optuna.reporting"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    likelihood, cost_figure = figures.likelihood_figure(result), figures.costs_figure(result)
    text = environment.get_template("report.html.j2").render(
        result=result,
        words=words,
        costs=_costs(result),
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - the library itself
        ranking=_html(figures.ranking_figure(result)),
        curves=_html(figures.curves_figure(result)),
        likelihood=_html(likelihood) if likelihood else None,
        cost_figure=_html(cost_figure) if cost_figure else None,
        similarities=[_html(figure) for figure in figures.similarity_figures(result)],
        settings=yaml.safe_dump(dict(result.config), sort_keys=False, allow_unicode=True),
        dashboard_command=dashboard_command,
        versions=versions,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _costs(result: StudyResult) -> list[tuple[str, float, float]]:
    """Name, device-seconds and full-run equivalents of every part, the total last.

    Nothing where the cost of a full run is not known.
    """
    if result.full_run_seconds is None:
        return []
    costs = result.costs
    parts = [
        ("features", costs.features),
        ("similarity (CKA)", costs.similarity),
        ("warm-up", costs.warmup),
        ("training", costs.training),
        ("evaluation", costs.evaluation),
        *([("failed and lost", costs.lost)] if costs.lost else []),
        ("together", costs.total),
    ]
    one = result.full_run_seconds
    return [(name, seconds, seconds / one) for name, seconds in parts]


def _html(figure: go.Figure) -> Markup:
    # plotly escapes what it is given inside a JSON string; `</script>` included.
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return Markup(html)  # noqa: S704
