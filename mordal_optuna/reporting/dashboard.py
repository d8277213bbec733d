"""The result inside optuna-dashboard: figures and a note on the study's page."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from mordal_optuna.reporting import figures, words

if TYPE_CHECKING:
    from optuna import Study

    from mordal_optuna.search.result import StudyResult


def publish(study: Study, result: StudyResult) -> bool:
    """Put figures and ranking on the study's page; a later call replaces them.

    Args:
        study: its storage gets them.
        result: what to show.

    Returns:
        False where optuna-dashboard is not installed.
    """
    if find_spec("optuna_dashboard") is None:
        return False
    from optuna_dashboard import save_note, save_plotly_graph_object

    shown = {
        "mordal-ranking": figures.ranking_figure(result),
        "mordal-curves": figures.curves_figure(result),
        "mordal-costs": figures.costs_figure(result),
        "mordal-likelihood": figures.likelihood_figure(result),
    }
    for number, similarity in enumerate(figures.similarity_figures(result)):
        shown[f"mordal-similarity-{number}"] = similarity
    for name, figure in shown.items():
        if figure is None:
            continue
        save_plotly_graph_object(study, figure, graph_object_id=name)
    save_note(study, _note(result))
    return True


def dashboard_command(storage_url: str) -> str:
    """The shell line that opens the dashboard on a storage; a password is shown as ***."""
    shown = make_url(storage_url).render_as_string(hide_password=True)
    return f"uv run --extra dashboard optuna-dashboard {shown}"


def _note(result: StudyResult) -> str:
    rows = [
        f"| {rank} | {e.candidate.vision_encoder} | {e.candidate.llm} "
        f"| {words.percent(e.value)} | {words.interval(e)} | {words.known(e)} |"
        for rank, e in enumerate(result.ranking, start=1)
    ]
    return "\n".join(
        [
            *(f"**Warning: {text}.**\n" for text in result.warnings),
            f"**{words.headline(result)}**",
            "",
            f"Cost: {words.cost_sentence(result)}",
            "",
            f"Ended: {words.ending(result)}.",
            "",
            "| rank | vision encoder | LLM | estimate, % | interval | known |",
            "|--:|---|---|--:|---|---|",
            *rows,
        ]
    )
