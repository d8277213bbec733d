"""Scores of a model on a task, as the search stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from mordal_optuna.evaluation.score import Score


def measurement_of(score: Score, samples: int) -> Measurement:
    """The search's measurement of a score; costs and per-document answers are left out.

    `evaluation` must not import `search`, so the conversion lives here, where both are known.

    Args:
        score: score of a checkpoint on one task.
        samples: number of alignment samples the checkpoint was trained on.
    """
    return Measurement(
        samples=samples,
        score=score.value,
        stderr=score.stderr,
        documents=score.documents,
        nll=score.nll,
        nll_stderr=score.nll_stderr,
        p_correct=score.p_correct,
        p_correct_stderr=score.p_correct_stderr,
        guessed=score.guessed,
        cut=score.cut,
        empty=score.empty,
        alike=score.alike,
        differing=score.differing,
    )
