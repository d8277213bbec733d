"""Measure a candidate for real: align it to a rung, then score it with lmms-eval."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.alignment.export import export
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.evaluation.score import score
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.doubts import at_chance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.session import Machine
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.tasks import Task
    from mordal_optuna.guard import Guard
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.scores import ScoreStore
    from mordal_optuna.store import ClaimStore


class AlignAndScore:
    """Trains candidates rung by rung and scores them; keeps only the latest one in memory."""

    def __init__(
        self,
        settings: StudySettings,
        *,
        data: AlignmentSet,
        checkpoints: CheckpointStore,
        scores: ScoreStore | None,
        tasks: Sequence[Task],
        machine: Machine,
        progress: Progress,
        claims: ClaimStore | None = None,
    ) -> None:
        """Measure the candidates of a study.

        Args:
            settings: the study.
            data: the alignment set.
            checkpoints: where trained parts are kept and found again.
            scores: where scores are kept and found again; None on a process that does not lead.
            tasks: the target task, then the further ones in the study file's order.
            machine: where to train.
            progress: is told of bars and scores.
            claims: those that this process holds guard its checkpoints; None where nobody else
                can train, or on a process that does not lead.
        """
        self._settings = settings
        self._pool = settings.models()
        self._data = data
        self._checkpoints = checkpoints
        self._scores = scores
        self._tasks = tuple(tasks)
        self._machine = machine
        self._progress = progress
        self._claims = claims
        self._current: tuple[Candidate, AlignmentSession] | None = None
        self._told_of_chance = False

    def __call__(self, candidate: Candidate, samples: int) -> Measurement | None:
        """Align a candidate to `samples` and score it on the target task.

        Where the study file asks for it, the further tasks are scored in the same pass.

        Returns:
            What was measured; None on a process that does not lead.

        Raises:
            MordalError: if it cannot be assembled, trained or scored.
        """
        every = self._settings.also_score_at == "rungs"
        tasks = self._tasks if every else self._tasks[:1]
        found = self.score_on(self._at(tasks, samples), candidate, samples)
        if found is None:
            return None
        kept = self._session(candidate).kept(samples)
        assert kept
        self._progress.note(f"{candidate} at {samples} samples: " + "; ".join(map(_told, found)))
        target = found[0]
        measurement = Measurement(
            samples=samples,
            score=target.value,
            stderr=target.stderr,
            documents=target.documents,
            train_seconds=kept.train_seconds,
            eval_seconds=sum(s.seconds for s in found),
            nll=target.nll,
            nll_stderr=target.nll_stderr,
            guessed=target.guessed,
            cut=target.cut,
            empty=target.empty,
            alike=target.alike,
        )
        self._warn_of_chance(candidate, measurement)
        return measurement

    def _warn_of_chance(self, candidate: Candidate, measurement: Measurement) -> None:
        """Say that a score is a guesser's, of the first candidate of which that is true."""
        text = at_chance(candidate, measurement, self._tasks[0].chance)
        if text and not self._told_of_chance:
            self._told_of_chance = True
            self._progress.warn(text)

    def score_further(self, candidate: Candidate, samples: int) -> tuple[Score, ...] | None:
        """Scores of a candidate's rung on all further tasks, in one pass.

        Returns:
            The scores; None on a process that does not lead.

        Raises:
            MordalError: if it cannot be assembled, trained or scored.
        """
        return self.score_on(self._at(self._tasks[1:], samples), candidate, samples)

    def score_on(
        self, tasks: Sequence[Task], candidate: Candidate, samples: int
    ) -> tuple[Score, ...] | None:
        """Align a candidate to `samples` and score it on tasks; what is known is looked up.

        Returns:
            The scores, in the tasks' order; None on a process that does not lead.

        Raises:
            MordalError: if it cannot be assembled, trained or scored.
        """
        processes = self._machine.processes
        session = self._session(candidate)
        known = processes.together(lambda: self._known(session, tasks, samples))
        missing: list[str] = processes.told([t.name for t in tasks if t.name not in known])
        if missing:
            asked = [task for task in tasks if task.name in missing]
            guard = self._claims.guard(candidate) if self._claims else None
            known |= self._score(session, asked, samples, guard)
        return tuple(known[task.name] for task in tasks) if processes.leads else None

    def _at(self, tasks: Sequence[Task], samples: int) -> list[Task]:
        """Tasks on the documents that a rung is scored on."""
        wanted = {t.name: t for t in (self._settings.task, *self._settings.also_score)}
        sized = []
        for task in tasks:
            count = wanted[task.name].documents_at(samples, len(self._data))
            sized.append(task.subset(count or len(task.documents)))
        return sized

    def _score(
        self,
        session: AlignmentSession,
        tasks: Sequence[Task],
        samples: int,
        guard: Guard | None,
    ) -> dict[str, Score]:
        """Scores by task; nothing on a process that does not lead."""
        processes = self._machine.processes
        try:
            session.advance(samples, self._progress, guard)
        except BaseException:
            self._current = None  # what it holds is between two rungs; a checkpoint is not
            raise
        found = score(session.vlm.model, session.vlm.processor, tasks, processes=processes)
        if found is None:
            return {}
        scores = {s.task: replace(s, seconds=s.seconds * processes.world) for s in found}
        kept = session.kept(samples)
        if kept and self._scores:
            for task in tasks:
                self._scores.put(kept.address, task.identity, scores[task.name])
        return scores

    def _known(
        self, session: AlignmentSession, tasks: Sequence[Task], samples: int
    ) -> dict[str, Score]:
        """Scores that are stored, by task; the leading process alone has them."""
        kept = session.kept(samples)
        if kept is None or self._scores is None:
            return {}
        found = {task.name: self._scores.get(kept.address, task.identity) for task in tasks}
        return {name: known for name, known in found.items() if known}

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


def _told(score: Score) -> str:
    text = f"{100 * score.value:.1f} ± {100 * score.stderr:.1f} % on {score.task}"
    if score.nll is not None:
        text += f", -ln p {score.nll:.2f}"
    if score.guessed is not None:
        text += f" ({100 * score.guessed:.0f} % of the answers could not be read and were drawn)"
    return text
