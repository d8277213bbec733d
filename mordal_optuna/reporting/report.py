"""The HTML report: one self-contained file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mordal_optuna.files.atomic import atomic_write
from mordal_optuna.reporting import figures, task_words, words

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
    """Write the report, replacing an older one atomically.

    Args:
        result: result of a finished or unfinished study.
        path: path of the HTML file, in an existing folder.
        dashboard_command: shell command that opens optuna-dashboard on the study.
        versions: version of each library that was used, by name.

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
        task_words=task_words,
        on_tasks=[(task_words.ranked(t), task_words.intervals(t)) for t in result.tasks],
        costs=_costs(result),
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - plotly.js itself
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
    """Label, device-seconds and full-run equivalents of each part of the costs, then the total.

    Empty if the cost of a full run is not known.
    """
    if result.full_run_seconds is None:
        return []
    parts = [*words.cost_parts(result.costs), ("total", result.costs.total)]
    return [(label, seconds, seconds / result.full_run_seconds) for label, seconds in parts]


def _html(figure: go.Figure) -> Markup:
    # plotly escapes all text inside its JSON, including `</script>`.
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return Markup(html)  # noqa: S704
