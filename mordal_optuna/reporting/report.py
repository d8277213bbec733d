"""The report of a study as files: HTML, Markdown and JSON.

The HTML file needs nothing else: it holds plotly.js and the figures, which its script draws in the
colours that the reader prefers. What it says is in `content`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.io import to_json as figure_json
from plotly.offline import get_plotlyjs

from mordal_optuna.files.atomic import atomic_write
from mordal_optuna.reporting.content import report_content
from mordal_optuna.reporting.markdown import to_markdown
from mordal_optuna.reporting.page_figures import DARK
from mordal_optuna.reporting.plain import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import plotly.graph_objects as go

    from mordal_optuna.reporting.blocks import Document
    from mordal_optuna.study.result import StudyResult

Format = Literal["html", "md", "json"]
FORMATS: tuple[Format, ...] = ("html", "md", "json")


def write_reports(
    result: StudyResult,
    folder: Path,
    *,
    dashboard_command: str = "",
    notice: str | None = None,
    unfinished: Mapping[str, object] | None = None,
    formats: Sequence[Format] = FORMATS,
) -> list[Path]:
    """Write the report as `STUDY.html`, `STUDY.md` and `STUDY.json`, replacing older ones.

    Args:
        result: result of a finished or unfinished study.
        folder: existing folder.
        dashboard_command: shell command that opens optuna-dashboard on the study; empty to leave
            it out.
        notice: sentence that says that the study is not finished; None for one that is.
        unfinished: the study's state as JSON values, with the notice; None for one that is.
        formats: what to write.

    Returns:
        The files, in the order of the formats.
    """
    document = report_content(result, notice=notice, dashboard_command=dashboard_command)
    texts = {
        "html": lambda: to_html(document),
        "md": lambda: to_markdown(document),
        "json": lambda: json.dumps(to_json(result, unfinished), indent=1) + "\n",
    }
    written = []
    for kind in formats:
        path = folder / f"{result.study}.{kind}"
        with atomic_write(path) as temporary:
            temporary.write_text(texts[kind](), encoding="utf-8")
        written.append(path)
    return written


def to_html(document: Document) -> str:
    """Write a report as one HTML page that needs nothing else.

    Args:
        document: the report.
    """
    environment = Environment(
        loader=PackageLoader("mordal_optuna.reporting"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["of_kind"] = lambda block, kind: type(block).__name__ == kind
    return environment.get_template("report.html.j2").render(
        document=document,
        drawing=_drawing,
        dark=DARK,
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704 - plotly.js itself
    )


def _drawing(figure: go.Figure) -> Markup:
    """A figure as JSON, without its title; plotly escapes `<`, so that no text ends the script."""
    shown = figure.to_dict()
    shown["layout"].pop("title", None)
    return Markup(figure_json(shown, validate=False))  # noqa: S704
