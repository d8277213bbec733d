"""What a study with several target tasks found, as text: for each task and for all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.reporting import words

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.study.task_results import TaskResult

# Best pairs of each task that short lists hold.
_FIRST = 3


def named(task: TaskResult) -> str:
    """A task's name with its weight, unless that is 1."""
    return task.name if task.weight == 1 else f"{task.name} x {task.weight:g}"


def gain(task: TaskResult) -> str:
    """What the task's best pair wins there, in points with the interval; a dash without any."""
    won = task.gain
    if won is None:
        return "-"
    ends = f"{100 * won.low:+.1f} to {100 * won.high:+.1f}"
    return f"{100 * won.value:+.1f} ({ends})"


def better(task: TaskResult) -> str:
    """Probability, in percent, that the task's best pair is better there; a dash without any."""
    return "-" if task.gain is None else f"{100 * task.gain.probability:.0f}"


def own_best(task: TaskResult) -> str:
    """The best pair for a task, by its estimate."""
    return "the same pair" if task.gain is None else str(task.best.candidate)


def measured(task: TaskResult, candidate: Candidate) -> str:
    """A pair's score on a task at its highest rung; a dash if it was never trained."""
    curve = task.curves.get(candidate)
    if not curve:
        return "-"
    last = curve[-1]
    return f"{words.score(last.score, last.stderr, last.documents)} at {last.samples:,}"


def specialising(result: StudyResult) -> str:
    """What a pair of its own for each task would win over the one model for all."""
    winner = result.winner.candidate
    parts = [
        f"{100 * task.gain.value:.1f} points on {task.name} by {task.best.candidate} "
        f"(better there with probability {task.gain.probability:.2f})"
        for task in result.tasks
        if task.gain
    ]
    if not parts:
        return f"By the estimates {winner} is the best pair on every task."
    return f"By the estimates, a pair of its own for each task would win {'; '.join(parts)}."


def unbeaten(result: StudyResult, most: int = 6) -> str:
    """The pairs that no other pair beats on all tasks.

    Args:
        result: result of a study with several tasks.
        most: number of pairs that are named.
    """
    pairs = [str(pair) for pair in result.unbeaten]
    names = "; ".join(pairs[:most])
    more = f" and {len(pairs) - most} more" if len(pairs) > most else ""
    of = f"of {len(result.ranking)} pairs"
    if len(pairs) == 1:
        return f"1 {of} is estimated at least as high as every other on all tasks: {names}."
    return f"{len(pairs)} {of} have no other estimated above them on all tasks: {names}{more}."


def short_list(result: StudyResult) -> list[Candidate]:
    """The pairs that are unbeaten, or among the first three of a task, in the ranking's order."""
    chosen = set(result.unbeaten)
    for task in result.tasks:
        chosen |= {estimate.candidate for estimate in task.ranking[:_FIRST]}
    return [e.candidate for e in result.ranking if e.candidate in chosen]


def ranked(task: TaskResult) -> dict[Candidate, str]:
    """Estimate of every pair on a task in percent, with its rank there in brackets."""
    return {
        candidate: f"{words.only_estimate(estimate)} ({rank})"
        for candidate, (rank, estimate) in task.places().items()
    }


def intervals(task: TaskResult) -> dict[Candidate, str]:
    """Interval of every pair's estimate on a task, in percent."""
    return {estimate.candidate: words.interval(estimate) for estimate in task.ranking}
