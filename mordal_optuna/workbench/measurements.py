"""Scores of a model on a task, as the search stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def differing_text(scores: Sequence[Score]) -> str:
    """How many of an engine's answers differ from the live model's, in words.

    Args:
        scores: scores of an engine on each task.
    """
    shares = (f"{100 * (s.differing or 0.0):.0f} % on {s.task}" for s in scores)
    return (
        f"answers of {scores[0].engine} that differ from the live model's, of the documents that "
        f"both answered: {'; '.join(shares)}"
    )


def score_text(score: Score) -> str:
    """A score in words, as it is noted while a study runs.

    Args:
        score: score of a checkpoint on one task.
    """
    text = f"{100 * score.value:.1f} ± {100 * score.stderr:.1f} % on {score.task}"
    if score.nll is not None:
        text += f", -ln p {score.nll:.2f}"
    if score.guessed is not None:
        text += f" ({100 * score.guessed:.0f} % of the answers could not be read and were drawn)"
    return text
