"""The result in optuna-dashboard: figures and notes on the study's page."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from mordal_optuna.reporting import figures, task_words, words
from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, NOTED
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.trials import trial_handles
from mordal_optuna.study.addresses import shown_address
from mordal_optuna.study.task_studies import task_study_name

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.study.result import StudyResult


# How a trial ended. Only complete trials have a value, so that values are comparable.
_END = {
    TrialState.COMPLETE: "Measured at the highest rung of the search; its value is that score.",
    TrialState.PRUNED: (
        "Stopped at this rung: other pairs are more promising, or a later trial continues this "
        "one. Scores at fewer samples are not compared with those at more."
    ),
    TrialState.FAIL: "Failed.",
    TrialState.RUNNING: "Running.",
    TrialState.WAITING: "Waiting.",
}


def publish(study: Study, result: StudyResult) -> bool:
    """Publish figures and notes on the study's page; a later call replaces them.

    Args:
        study: study whose storage holds figures and notes.
        result: result to publish.

    Returns:
        False if optuna-dashboard is not installed.
    """
    if find_spec("optuna_dashboard") is None:
        return False
    from optuna_dashboard import save_note, save_plotly_graph_object

    by_name = {
        "mordal-ranking": figures.ranking_figure(result),
        "mordal-curves": figures.curves_figure(result),
        "mordal-costs": figures.costs_figure(result),
        "mordal-likelihood": figures.likelihood_figure(result),
    }
    for number, similarity in enumerate(figures.similarity_figures(result)):
        by_name[f"mordal-similarity-{number}"] = similarity
    for name, figure in by_name.items():
        if figure is None:
            continue
        save_plotly_graph_object(study, figure, graph_object_id=name)
    save_note(study, _note(result))
    _note_trials(study, result)
    return True


def dashboard_command(storage_url: str) -> str:
    """The shell command that opens the dashboard on a storage; a password is shown as ***."""
    return f"uv run --extra dashboard optuna-dashboard {shown_address(storage_url)}"


def _note(result: StudyResult) -> str:
    rows = [
        f"| {rank} | {result.standings[e.candidate].group} | {e.candidate.vision_encoder} "
        f"| {e.candidate.llm} | {words.last_score(result, e)} "
        f"| {words.to_winner(result.standings[e.candidate], e)} | {words.estimated(e)} "
        f"| {words.provenance(e)} | {words.best_percent(e)} |"
        for rank, e in enumerate(result.ranking, start=1)
    ]
    paragraphs = [
        *(f"**Warning: {text}.**" for text in result.warnings),
        f"**{words.headline(result)}**",
        f"{words.ties(result)} {words.may_be_best(result)}",
        *(words.challenger(pair) for pair in result.challengers[:3]),
        *(_on_tasks(result) if result.tasks else ()),
        f"Cost: {words.cost_sentence(result)}",
        f"Ended: {words.ending(result)}.",
        "; ".join(f"{group}: {title}" for group, title in words.GROUPS.items()) + ".",
    ]
    table = [
        "| rank | group | vision encoder | LLM | measured, % | to the winner, points "
        "| estimate, % | provenance | best, % |",
        "|--:|---|---|---|--:|--:|--:|---|--:|",
        *rows,
    ]
    return "\n\n".join([*paragraphs, "\n".join(table)])


def _on_tasks(result: StudyResult) -> list[str]:
    """What specialising on each of several tasks would win."""
    rows = [
        f"| {task_words.named(task)} | {words.estimated(task.one_for_all)} "
        f"| {task_words.own_best(task)} | {words.estimated(task.best)} | {task_words.gain(task)} "
        f"| {task_words.better(task)} |"
        for task in result.tasks
    ]
    table = [
        "| task | one for all, % | best for the task | its % | gain, points | better, % |",
        "|---|--:|---|--:|--:|--:|",
        *rows,
    ]
    studies = ", ".join(f"'{task_study_name(result.study, t.name)}'" for t in result.tasks)
    return [
        f"{task_words.specialising(result)} {task_words.unbeaten(result)}",
        "\n".join(table),
        f"The scores on each task are in the studies {studies}.",
    ]


def _note_trials(study: Study, result: StudyResult) -> None:
    """Write the notes of trials that ended since the last call, and of all complete trials.

    Whether a complete trial is the study's answer can change; the other notes cannot.
    """
    from optuna_dashboard import save_note

    noted = study.user_attrs.get(NOTED, 0)
    trials = study.get_trials(deepcopy=False)
    new = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        or (trial.state.is_finished() and trial.number >= noted)
    ]
    for trial, handle in zip(new, trial_handles(study, new), strict=True):
        text = _trial_note(trial, result)
        if text:
            save_note(handle, text)
    running = [trial.number for trial in trials if not trial.state.is_finished()]
    study.set_user_attr(NOTED, min(running, default=len(trials)))


def _trial_note(trial: FrozenTrial, result: StudyResult) -> str | None:
    """A trial's pair, score and end, as text; None if the trial has no pair."""
    candidate = candidate_of(trial)
    if candidate is None:
        return None
    lines = [f"## {candidate}"]
    if trial.intermediate_values:
        samples, value = max(trial.intermediate_values.items())
        lines.append(f"{words.percent(value)} % on {result.task} at {samples:,} samples.")
    lines.append(_END[trial.state])
    reason = trial.user_attrs.get(FAILURE) or trial.user_attrs.get(INTERRUPTED)
    if reason:
        lines.append(f"{reason}.")
    if candidate == result.winner.candidate and trial.state == TrialState.COMPLETE:
        lines.append("This is the study's answer.")
    return "\n\n".join(lines)
