"""Training and scoring one pair outside a search; shared by the benchmarks that train pairs."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING

from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.evaluation.score import score
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.pool import Candidate


@dataclass(frozen=True)
class Rung:
    """A pair's scores at one rung.

    Attributes:
        samples: number of alignment samples trained on so far.
        scores: one score per task.
        train_seconds: wall-clock seconds of the whole training so far.
        train_cpu_seconds: CPU seconds of this process from the previous rung to this one.
        score_cpu_seconds: CPU seconds of this process for scoring at this rung.
    """

    samples: int
    scores: tuple[Score, ...]
    train_seconds: float
    train_cpu_seconds: float
    score_cpu_seconds: float


def open_session(
    settings: StudySettings,
    candidate: Candidate,
    data: AlignmentSet,
    *,
    checkpoints: CheckpointStore,
    machine: Machine,
    seed: int | None = None,
    schedule: str = "",
) -> AlignmentSession:
    """Open the alignment of a pair.

    Args:
        settings: the study.
        candidate: a pair of the study's pool.
        data: the study's alignment set.
        checkpoints: store of checkpoints.
        machine: device and threads.
        seed: random seed; None uses the study's.
        schedule: learning-rate schedule; empty uses the study's.
    """
    encoder, llm = settings.models().parts(candidate)
    alignment = settings.alignment
    if schedule:
        alignment = alignment.model_copy(update={"schedule": schedule})
    return AlignmentSession(
        encoder,
        llm,
        settings=alignment,
        seed=settings.seed if seed is None else seed,
        data=data,
        checkpoints=checkpoints,
        machine=machine,
    )


def scored_rungs(
    session: AlignmentSession, rungs: Sequence[int], tasks: Sequence[Task]
) -> Iterator[Rung]:
    """Train a pair from rung to rung and score it on all tasks at each.

    Args:
        session: alignment of the pair.
        rungs: numbers of samples, ascending.
        tasks: tasks to score on, in one pass.
    """
    for samples in rungs:
        start = process_time()
        session.advance(samples, Silent())
        trained = process_time()
        scores = score(session.vlm.model, session.vlm.processor, tasks)
        assert scores is not None
        yield Rung(
            samples,
            tuple(scores),
            session.train_seconds,
            trained - start,
            process_time() - trained,
        )
