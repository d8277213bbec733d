"""The result of a study as plain values: the output of `mordal run --json`, and `STUDY.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mordal_optuna.reporting import words
from mordal_optuna.reporting.reasons import why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.answers import Contrast
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.study.task_results import TaskResult


def to_json(result: StudyResult, unfinished: Mapping[str, object] | None = None) -> dict[str, Any]:
    """All that the terminal and the report show, as JSON values.

    Scores, estimates, probabilities and margins are on 0..1, costs in device-seconds.

    Args:
        result: result of a finished or unfinished study.
        unfinished: state of a study that is not finished; None for one that is.
    """
    content = {
        "study": result.study,
        "task": result.task,
        "method": result.method,
        "full_samples": result.full_samples,
        "warnings": list(result.warnings),
        "headline": words.headline(result),
        "final": result.final,
        "unfinished": dict(unfinished) if unfinished else None,
        "winner": _pair(result, result.winner),
        "ties": {
            "pairs": [_named(e) for e in result.group("tied")],
            "settling_seconds": result.settling_seconds,
        },
        "challengers": [
            {**_pair(result, c.estimate), "seconds": c.seconds} for c in result.challengers
        ],
        "ranking": [_pair(result, estimate) for estimate in result.ranking],
        "costs": {
            **asdict(result.costs),
            "total": result.costs.total,
            "full_runs": result.full_runs,
            "grid_runs": result.grid_runs,
        },
        "time": result.times.to_json(),
        "stopped_because": result.stopped_because,
        "further_scores": [score.to_json() for score in result.further_scores],
        "given_up": {str(candidate): reason for candidate, reason in result.given_up.items()},
        "failures": {str(candidate): reason for candidate, reason in result.failures.items()},
        "config": dict(result.config),
        "provenance": result.origin.to_json(),
    }
    if result.tasks:
        content["tasks"] = [_task(task) for task in result.tasks]
        content["unbeaten"] = [_candidate(pair) for pair in result.unbeaten]
    return content


def _task(task: TaskResult) -> dict[str, Any]:
    """One of several tasks: its ranking, and what specialising on it would win."""
    return {
        "name": task.name,
        "weight": task.weight,
        "one_for_all": _on_task(task, task.one_for_all),
        "best": _on_task(task, task.best),
        "gain": asdict(task.gain) if task.gain else None,
        "ranking": [_on_task(task, estimate) for estimate in task.ranking],
    }


def _on_task(task: TaskResult, estimate: Estimate) -> dict[str, Any]:
    return {
        **_named(estimate),
        "measured": _measured(task.curves.get(estimate.candidate, ())),
        "estimate": _estimate(estimate),
        "best": estimate.best,
    }


def _named(estimate: Estimate) -> dict[str, str]:
    return _candidate(estimate.candidate)


def _candidate(candidate: Candidate) -> dict[str, str]:
    return {"vision_encoder": candidate.vision_encoder, "llm": candidate.llm}


def _pair(result: StudyResult, estimate: Estimate) -> dict[str, Any]:
    standing = result.standings[estimate.candidate]
    return {
        **_named(estimate),
        "group": standing.group,
        "measured": _measured(result.curves.get(estimate.candidate, ())),
        "estimate": _estimate(estimate),
        "best": estimate.best,
        "given_up": result.given_up.get(estimate.candidate),
        "against_winner": _contrast(standing.contrast, standing.margin),
        "seconds": estimate.seconds,
        "why": why(result, estimate),
    }


def _measured(curve: Sequence[Measurement]) -> dict[str, Any] | None:
    """The score at the highest rung; None without any."""
    shown = [(m.samples, m.score, m.stderr, m.documents) for m in curve[-1:]]
    names = ("samples", "score", "stderr", "documents")
    return dict(zip(names, shown[0], strict=True)) if shown else None


def _estimate(estimate: Estimate) -> dict[str, Any] | None:
    """The estimate; None for a pair that was given up before any score."""
    if estimate.provenance == "none":
        return None
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "known": estimate.provenance,
    }


def _contrast(contrast: Contrast | None, margin: float | None) -> dict[str, Any] | None:
    if contrast is None:
        return None
    return {
        "samples": contrast.samples,
        "difference": -contrast.difference,
        "margin": margin,
        "paired": contrast.paired,
    }
