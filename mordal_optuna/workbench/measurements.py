"""Scores of a model on a task, as the search stores them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mordal_optuna.search.answers import Answers
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.task import Task


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A candidate's checkpoint with its scores, as it is exported.

    Attributes:
        samples: number of alignment samples that the weights were trained on.
        train_seconds: device-seconds of training from the start to this checkpoint.
        scores: scores of these weights on the target tasks, then on the further tasks.
        documents: number of documents of each of these tasks, scored or not.
    """

    samples: int
    train_seconds: float
    scores: tuple[Score, ...]
    documents: tuple[int, ...]


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


def task_measurements(
    scores: Sequence[Score],
    tasks: Sequence[Task],
    *,
    targets: int,
    samples: int,
    train_seconds: float,
    train_spent: float,
    again: bool,
) -> dict[str, Measurement]:
    """What the search stores of a rung, by target task.

    The training is shared out equally, and so is the evaluation on the further tasks. These are
    scored once at a rung: found beside target tasks that are added later, they cost nothing.

    Args:
        scores: the rung's scores, one per task.
        tasks: the tasks, the target tasks first.
        targets: number of target tasks, at least 1.
        samples: number of alignment samples at the rung.
        train_seconds: device-seconds of training from the start to the rung.
        train_spent: device-seconds of training for this measurement.
        again: whether the rung may have been scored before, on other target tasks.
    """
    further = scores[targets:]
    if again and all(s.found for s in further):
        further = ()
    seconds = sum(s.seconds for s in further) / targets
    spent = sum(s.seconds for s in further if not s.found) / targets
    return {
        task.name: replace(
            measurement_of(score, samples),
            train_seconds=train_seconds,
            eval_seconds=score.seconds + seconds,
            train_spent=train_spent / targets,
            eval_spent=(0.0 if score.found else score.seconds) + spent,
            answers=Answers.of(score.per_document, score.clusters, task.identity).packed(),
        )
        for score, task in zip(scores[:targets], tasks[:targets], strict=True)
    }


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


def tracked_values(scores: Sequence[Score], train_seconds: float) -> dict[str, float]:
    """What the trackers are told of a rung.

    Args:
        scores: the rung's scores, one per task.
        train_seconds: device-seconds of training from the start to the rung.

    Returns:
        `score/TASK` (0 to 1), `stderr/TASK`, `nll/TASK` in nats where it was measured, and
        `device_seconds/training` and `device_seconds/scoring`; the latter is 0 for scores that
        were found in the database.
    """
    values = {"device_seconds/training": train_seconds}
    values["device_seconds/scoring"] = sum(s.seconds for s in scores if not s.found)
    for score in scores:
        values[f"score/{score.task}"] = score.value
        values[f"stderr/{score.task}"] = score.stderr
        if score.nll is not None:
            values[f"nll/{score.task}"] = score.nll
    return values
