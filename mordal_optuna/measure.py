"""Measure a candidate for real: align it to a rung, then score it with lmms-eval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.alignment.export import export
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.errors import MordalError
from mordal_optuna.evaluation.score import score
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.session import Machine
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.tasks import Task
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.scores import ScoreStore


class AlignAndScore:
    """Trains candidates rung by rung and scores them; keeps only the latest one in memory."""

    def __init__(
        self,
        settings: StudySettings,
        *,
        data: AlignmentSet,
        checkpoints: CheckpointStore,
        scores: ScoreStore | None,
        task: Task,
        machine: Machine,
        progress: Progress,
    ) -> None:
        """Measure the candidates of a study.

        Args:
            settings: the study.
            data: the alignment set.
            checkpoints: where trained parts are kept and found again.
            scores: where scores are kept and found again; None on a process that does not lead.
            task: the target task.
            machine: where to train.
            progress: is told of bars and scores.
        """
        self._settings = settings
        self._pool = settings.models()
        self._data = data
        self._checkpoints = checkpoints
        self._scores = scores
        self._task = task
        self._machine = machine
        self._progress = progress
        self._current: tuple[Candidate, AlignmentSession] | None = None

    def __call__(self, candidate: Candidate, samples: int) -> Measurement | None:
        """Align a candidate to `samples` and score it on the target task.

        Returns:
            What was measured; None on a process that does not lead.

        Raises:
            MordalError: if it cannot be assembled, trained or scored.
        """
        found = self.score_on(self._task, self._settings.task.batch_size, candidate, samples)
        if found is None:
            return None
        kept = self._session(candidate).kept(samples)
        assert kept
        self._progress.note(
            f"{candidate} at {samples} samples: {100 * found.value:.1f} "
            f"± {100 * found.stderr:.1f} % on {found.task}{_guessed(found)}"
        )
        return Measurement(
            samples=samples,
            score=found.value,
            stderr=found.stderr,
            documents=found.documents,
            train_seconds=kept.train_seconds,
            eval_seconds=found.seconds,
        )

    def score_on(
        self, task: Task, batch_size: int, candidate: Candidate, samples: int
    ) -> Score | None:
        """Align a candidate to `samples` and score it on any task, or find its score.

        Returns:
            The score; None on a process that does not lead.

        Raises:
            MordalError: if it cannot be assembled, trained or scored.
        """
        processes = self._machine.processes
        session = self._session(candidate)
        known = processes.together(lambda: self._known(session, task, samples))
        if processes.told(known is not None):
            return known
        try:
            session.advance(samples, self._progress)
        except MordalError:
            self._current = None  # what it holds is between two rungs; a checkpoint is not
            raise
        found = score(
            session.vlm.model,
            session.vlm.processor,
            task,
            batch_size=batch_size,
            processes=processes,
        )
        if found is None:
            return None
        found = replace(found, seconds=found.seconds * processes.world)
        kept = session.kept(samples)
        if kept and self._scores:
            self._scores.put(kept.address, task.identity, found)
        return found

    def _known(self, session: AlignmentSession, task: Task, samples: int) -> Score | None:
        kept = session.kept(samples)
        if kept is None or self._scores is None:  # the leading process alone has scores
            return None
        return self._scores.get(kept.address, task.identity)

    def export(
        self, candidate: Candidate, samples: int, folder: Path, scores: list[str]
    ) -> list[str]:
        """Write a candidate's checkpoint as a Hugging Face folder, see `alignment.export`.

        Returns:
            What the folder needs beyond transformers' own class, a sentence each.

        Raises:
            CheckpointError: if the checkpoint is not there any more.
        """
        session = self._session(candidate)
        session.restore(samples, self._progress)
        self._current = None  # merging ends its training
        return export(session.vlm, folder, session.card(scores))

    def _session(self, candidate: Candidate) -> AlignmentSession:
        if self._current is None or self._current[0] != candidate:
            if self._current:
                self._current[1].close()
            self._current = None  # free the last candidate before the next one is loaded
            encoder, llm = self._pool.parts(candidate)
            session = AlignmentSession(
                encoder,
                llm,
                settings=self._settings.alignment,
                seed=self._settings.seed,
                data=self._data,
                checkpoints=self._checkpoints,
                machine=self._machine,
            )
            self._current = (candidate, session)
        return self._current[1]


def _guessed(score: Score) -> str:
    if score.guessed is None:
        return ""
    return f" ({100 * score.guessed:.0f} % of the answers could not be read and were drawn)"
