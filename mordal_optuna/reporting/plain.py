"""The result of a study as plain values: the output of `mordal run --json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mordal_optuna.reporting import words

if TYPE_CHECKING:
    from mordal_optuna.search.answers import Contrast
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult


def to_json(result: StudyResult) -> dict[str, Any]:
    """All that the terminal and the report show, as JSON values.

    Scores, estimates, probabilities and margins are on 0..1, costs in device-seconds.

    Args:
        result: result of a finished or unfinished study.
    """
    return {
        "study": result.study,
        "task": result.task,
        "method": result.method,
        "full_samples": result.full_samples,
        "warnings": list(result.warnings),
        "headline": words.headline(result),
        "final": result.final,
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
        "stopped_because": result.stopped_because,
        "further_scores": [score.to_json() for score in result.further_scores],
        "failures": {str(candidate): reason for candidate, reason in result.failures.items()},
        "config": dict(result.config),
    }


def _named(estimate: Estimate) -> dict[str, str]:
    candidate = estimate.candidate
    return {"vision_encoder": candidate.vision_encoder, "llm": candidate.llm}


def _pair(result: StudyResult, estimate: Estimate) -> dict[str, Any]:
    standing = result.standings[estimate.candidate]
    curve = result.curves.get(estimate.candidate, ())
    shown = [(m.samples, m.score, m.stderr, m.documents) for m in curve[-1:]]
    names = ("samples", "score", "stderr", "documents")
    return {
        **_named(estimate),
        "group": standing.group,
        "measured": dict(zip(names, shown[0], strict=True)) if shown else None,
        "estimate": {
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "known": estimate.provenance,
        },
        "best": estimate.best,
        "against_winner": _contrast(standing.contrast, standing.margin),
        "seconds": estimate.seconds,
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
