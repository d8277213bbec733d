"""What optuna-dashboard tells of a result in words: notes in Markdown, attributes of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from mordal_optuna.reporting import task_words, words
from mordal_optuna.search.attributes import (
    BEST,
    ESTIMATE,
    FAILURE,
    FULL_RUNS,
    GIVEN_UP,
    INTERRUPTED,
    INTERVAL,
    MEASURED,
    SAMPLES,
    STATE,
    WINNER,
)
from mordal_optuna.search.history import candidate_of
from mordal_optuna.study.task_studies import task_study_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.study.task_results import TaskResult

# How a trial ended. Only complete trials have a value, so that values are comparable.
END = {
    TrialState.COMPLETE: "Measured at the highest rung of the search; its value is that score.",
    TrialState.PRUNED: (
        "Stopped at this rung: other pairs are more promising, or a later trial continues this "
        "one. Scores at fewer samples are not compared with those at more."
    ),
    TrialState.FAIL: "Failed.",
    TrialState.RUNNING: "Running.",
    TrialState.WAITING: "Waiting.",
}
# Rows of the ranking, and failures, in a note; the report has all.
_ROWS, _FAILED = 20, 5
# The dashboard sets no space between the columns of a table; two no-break spaces between numbers.
_GAP = "\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}"


def study_note(
    study: Study, result: StudyResult, *, links: Mapping[str, str], report: str | None
) -> str:
    """The report in short, for the page of a study.

    Args:
        study: the study.
        result: its result, final or so far.
        links: address, in the dashboard, of the study of each task by its name.
        report: address of the HTML report in the dashboard; None if there is none.
    """
    paragraphs = [
        best_trial(study, result.winner.candidate),
        *(f"**Warning: {text}.**" for text in result.warnings),
        f"**{words.headline(result)}**",
        f"{words.ties(result)} {words.may_be_best(result)}",
        *(words.challenger(pair) for pair in result.challengers[:3]),
        *(_on_tasks(result, links) if result.tasks else ()),
        f"Cost: {words.cost_sentence(result)}",
        f"Ended: {words.ending(result)}.",
        *(f"{_failed(result, pair)}: {pair}, {why}." for pair, why in _failures(result)),
        *_report(report),
        _ranking(result),
        "; ".join(f"{group}: {title}" for group, title in words.GROUPS.items()) + ".",
    ]
    return "\n\n".join(filter(None, paragraphs))


def task_note(
    study: Study, result: StudyResult, task: TaskResult, *, main: str, links: Mapping[str, str]
) -> str:
    """The result on one of several tasks, for the page of that task's study.

    Args:
        study: the study of the task.
        result: result of the study of all tasks.
        task: the task.
        main: address, in the dashboard, of the study of all tasks.
        links: address of the study of each task by its name.
    """
    own, winner = task.best.candidate, result.winner.candidate
    first = best_trial(study, own)
    others = ", ".join(
        f"[{_name(result, name)}]({address})"
        for name, address in links.items()
        if name != task.name
    )
    same = "It is also the best pair here." if own == winner else ""
    rows = [
        f"| {rank} | {e.candidate.vision_encoder} | {e.candidate.llm} "
        f"| {task_words.measured(task, e.candidate)} | {_GAP}{words.estimated(e)} "
        f"| {words.provenance(e)} | {words.best_percent(e)} |"
        for rank, e in enumerate(task.ranking[:_ROWS], start=1)
    ]
    table = [
        "| rank | vision encoder | LLM | measured | estimate, % | provenance | best, % |",
        "|--:|---|---|--:|--:|---|--:|",
        *rows,
    ]
    paragraphs = [
        first,
        f"**Best pair on {task.name} by its estimate: {own}, "
        f"{words.percent(task.best.value)} % ({words.interval(task.best)}).**",
        f"This study shows the scores on {task.name} alone. The pairs were chosen, and are "
        f"continued here when more is known, by [{result.study}]({main}), whose winner on "
        f"{result.task} is {winner}. {same}",
        f"Gain of the best pair here over {winner}: {task_words.gain(task)} points; better with "
        f"probability {task_words.better(task)} %."
        if task.gain
        else "",
        f"The other tasks: {others}." if others else "",
        _cut(table, len(task.ranking)),
    ]
    return "\n\n".join(filter(None, paragraphs))


def best_trial(study: Study, winner: Candidate) -> str:
    """Why the best trial that the page shows is not the winner; empty if it is.

    Args:
        study: the study of the page.
        winner: the winner of the study.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return (
            "This page has no best trial yet: no pair has been scored as far as the search will "
            f"train its finalists. The leader so far is {winner}."
        )
    best = study.best_trial
    shown = candidate_of(best)
    if shown == winner:
        return ""
    extreme = "highest" if study.direction == StudyDirection.MAXIMIZE else "lowest"
    return (
        f"The best trial of this page, number {best.number} ({shown}), is not the winner, "
        f"{winner}: it has the {extreme} value that a trial ended with, while the winner follows "
        "from all scores, also from those that came later."
    )


def trial_note(trial: FrozenTrial, result: StudyResult, *, newest: bool = False) -> str | None:
    """A trial's pair, score and end, as text; None if the trial has no pair.

    Args:
        trial: a trial in any state.
        result: result of its study.
        newest: whether it is the pair's newest trial; its note has the present estimate.
    """
    candidate = candidate_of(trial)
    if candidate is None:
        return None
    lines = [f"## {candidate}"]
    if trial.intermediate_values:
        samples, value = max(trial.intermediate_values.items())
        lines.append(f"{words.percent(value)} % on {result.task} at {samples:,} samples.")
    lines.append(END[trial.state])
    reason = trial.user_attrs.get(FAILURE) or trial.user_attrs.get(INTERRUPTED)
    if reason:
        lines.append(f"{reason}.")
    if candidate == result.winner.candidate and trial.state == TrialState.COMPLETE:
        lines.append("This is the study's answer.")
    estimate = next((e for e in result.ranking if e.candidate == candidate), None)
    if newest and estimate and estimate.provenance == "none":
        lines.append(f"{words.GROUPS['failed'].capitalize()}.")
    elif newest and estimate:
        group = words.GROUPS[result.standings[candidate].group]
        lines.append(
            f"Present estimate after all {result.full_samples:,} samples: "
            f"{words.percent(estimate.value)} % ({words.interval(estimate)}), "
            f"{words.provenance(estimate)}; {group}. Cost of the pair: "
            f"{words.candidate_cost(result, estimate)} device-seconds."
        )
    return "\n\n".join(lines)


def study_attributes(result: StudyResult) -> dict[str, Any]:
    """The result in the plain words of the study's user attributes, as of the last update."""
    winner = result.winner
    shown = {
        STATE: f"ended: {result.stopped_because}" if result.stopped_because else "searching",
        WINNER: str(winner.candidate),
        MEASURED: _percent(result.measured.score),
        SAMPLES: result.measured.samples,
        ESTIMATE: _percent(winner.value),
        INTERVAL: words.interval(winner),
    }
    if winner.best is not None:
        shown[BEST] = _percent(winner.best)
    if result.given_up:
        shown[GIVEN_UP] = {str(pair): why for pair, why in result.given_up.items()}
    if result.full_runs is not None:
        shown[FULL_RUNS] = round(result.full_runs, 2)
    return shown


def _failures(result: StudyResult) -> list[tuple[Candidate, str]]:
    """The pairs that failed with their reasons; those that were given up come first."""
    return list({**result.given_up, **result.failures}.items())[:_FAILED]


def _failed(result: StudyResult, pair: Candidate) -> str:
    return "Given up" if pair in result.given_up else "Failed"


def _percent(value: float) -> float:
    return round(100 * value, 1)


def _name(result: StudyResult, task: str) -> str:
    """A task study's name as the text of a link, in which square brackets must be escaped."""
    return task_study_name(result.study, task).replace("[", r"\[").replace("]", r"\]")


def _report(address: str | None) -> list[str]:
    if address is None:
        return []
    return [
        f"[The whole report]({address}) is among the artifacts of the study; `mordal dashboard` "
        "shows them."
    ]


def _ranking(result: StudyResult) -> str:
    rows = [
        f"| {rank} | {result.standings[e.candidate].group} | {e.candidate.vision_encoder} "
        f"| {e.candidate.llm} | {words.last_score(result, e)} "
        f"| {_GAP}{words.to_winner(result.standings[e.candidate], e)} "
        f"| {_GAP}{words.estimated(e)} | {words.provenance(e)} | {words.best_percent(e)} |"
        for rank, e in enumerate(result.ranking[:_ROWS], start=1)
    ]
    table = [
        "| rank | group | vision encoder | LLM | measured, % | to the winner, points "
        "| estimate, % | provenance | best, % |",
        "|--:|---|---|---|--:|--:|--:|---|--:|",
        *rows,
    ]
    return _cut(table, len(result.ranking))


def _cut(table: list[str], pairs: int) -> str:
    """A table with, below, how many pairs it lacks."""
    text = "\n".join(table)
    if pairs <= _ROWS:
        return text
    return f"{text}\n\nThe first {_ROWS} of {pairs} pairs; the report lists all."


def _on_tasks(result: StudyResult, links: Mapping[str, str]) -> list[str]:
    """What specialising on each of several tasks would win, and where each task is shown."""
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
    studies = ", ".join(
        f"[{_name(result, task.name)}]({links[task.name]})"
        if task.name in links
        else f"'{task_study_name(result.study, task.name)}'"
        for task in result.tasks
    )
    return [
        f"{task_words.specialising(result)} {task_words.unbeaten(result)}",
        "\n".join(table),
        f"The scores on each task are in the studies {studies}.",
    ]
