"""Measure a candidate for real: align it to a rung, then score it with lmms-eval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.evaluation.score import score
from mordal_optuna.models.export import export
from mordal_optuna.search.answers import Answers
from mordal_optuna.study.warnings import at_chance
from mordal_optuna.workbench.measurements import measurement_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.session import Kept, Machine
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.files.inputs import Watch
    from mordal_optuna.pool import Candidate
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.study.claims import ClaimStore
    from mordal_optuna.workbench.score_store import ScoreStore


@dataclass(frozen=True)
class ScoredCheckpoint:
    """Where a candidate stands whose weights are to be taken away.

    Attributes:
        samples: alignment samples of its weights.
        train_seconds: device-seconds of training from the start up to there.
        scores: of these weights, on the target task, then on the further ones.
        documents: how many each of these tasks has, scored or not.
    """

    samples: int
    train_seconds: float
    scores: tuple[Score, ...]
    documents: tuple[int, ...]


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
        watch: Watch | None = None,
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
            watch: the study's inputs, looked at again before and after a rung; None where nobody
                looks, or on a process that does not lead.
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
        self._watch = watch
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
        session = self._session(candidate)
        before = session.spent_seconds
        asked = self._at(tasks, samples)
        found = self.score_on(asked, candidate, samples)
        if found is None:
            return None
        kept = session.kept(samples)
        assert kept
        self._progress.note(f"{candidate} at {samples} samples: " + "; ".join(map(_told, found)))
        target = found[0]
        measurement = replace(
            measurement_of(target, samples),
            train_seconds=kept.train_seconds,
            eval_seconds=sum(s.seconds for s in found),
            train_spent=session.spent_seconds - before,
            eval_spent=sum(s.seconds for s in found if not s.found),
            answers=Answers.of(target.per_document, target.clusters, asked[0].identity).packed(),
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
        self,
        tasks: Sequence[Task],
        candidate: Candidate,
        samples: int,
        *,
        merged: bool = False,
    ) -> tuple[Score, ...] | None:
        """Align a candidate to `samples` and score it on tasks; what is known is looked up.

        Args:
            tasks: each of another name.
            candidate: the pair.
            samples: the rung.
            merged: score it with LoRA merged, which ends its training.

        Returns:
            The scores, in the tasks' order; None on a process that does not lead.

        Raises:
            InputsChangedError: if data, a task or a model is another now than when the study was
                opened.
            MordalError: if it cannot be assembled, trained or scored.
        """
        processes = self._machine.processes
        processes.run_on_all(lambda: self._check(candidate, tasks, samples))
        session = self._session(candidate)
        known = processes.run_on_all(lambda: self._known(session, tasks, samples, merged=merged))
        missing: list[str] = processes.broadcast([t.name for t in tasks if t.name not in known])
        if missing:
            asked = [task for task in tasks if task.name in missing]
            guard = self._claims.guard(candidate) if self._claims else None
            known |= self._score(candidate, asked, samples, guard, merged=merged)
        return tuple(known[task.name] for task in tasks) if processes.is_main else None

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
        candidate: Candidate,
        tasks: Sequence[Task],
        samples: int,
        guard: Guard | None,
        *,
        merged: bool,
    ) -> dict[str, Score]:
        """Scores by task; nothing on a process that does not lead."""
        processes, session = self._machine.processes, self._session(candidate)
        try:
            session.advance(samples, self._progress, guard)
        except BaseException:
            self._current = None  # what it holds is between two rungs; a checkpoint is not
            raise
        if merged:
            session.merge()
        found = score(session.vlm.model, session.vlm.processor, tasks, processes=processes)
        processes.run_on_all(lambda: self._check(candidate, tasks, samples))
        if found is None:
            return {}
        scores = {s.task: replace(s, seconds=s.seconds * processes.world_size) for s in found}
        kept = session.kept(samples)
        if kept and self._scores:
            for task in tasks:
                self._scores.put(_address(kept, merged), task.identity, scores[task.name])
        return scores

    def _check(self, candidate: Candidate, tasks: Sequence[Task], samples: int) -> None:
        if self._watch:
            self._watch.check_candidate(candidate, [task.name for task in tasks], samples)

    def kept(self, candidate: Candidate) -> list[int]:
        """Rungs of a candidate that have a checkpoint made of the present inputs."""
        return self._new_session(candidate).rungs()

    def _known(
        self, session: AlignmentSession, tasks: Sequence[Task], samples: int, *, merged: bool
    ) -> dict[str, Score]:
        """Scores that are stored, by task; the leading process alone has them."""
        kept = session.kept(samples)
        if kept is None or self._scores is None:
            return {}
        address = _address(kept, merged)
        found = {task.name: self._scores.get(address, task.identity) for task in tasks}
        return {name: replace(known, found=True) for name, known in found.items() if known}

    def stand(self, candidate: Candidate, *, train: bool) -> ScoredCheckpoint | None:
        """Go to a candidate's highest checkpoint and score it on all tasks, as it is exported.

        In fp32 merging LoRA changes nothing that is scored, so the scores of the checkpoint are
        those of the export. In bf16 it rounds, and answers that were nearly tied can change: the
        merged weights get scores of their own. What is known of exactly these weights is looked
        up, whichever study has scored them.

        Args:
            candidate: the pair.
            train: first train it on all alignment samples.

        Returns:
            Where it stands; None on a process that does not lead.

        Raises:
            CheckpointError: if it is not to be trained and no checkpoint of it is there.
            MordalError: if it cannot be assembled, trained or scored.
        """
        self._drop()  # it may be merged
        session = self._session(candidate)
        if train:
            session.advance(len(self._data), self._progress)
        else:
            session.restore(self._progress)
        samples, merged = session.samples, self._settings.alignment.precision != "fp32"
        tasks = self._at(self._tasks, samples)
        scores = self.score_on(tasks, candidate, samples, merged=merged)
        if scores is None:
            return None
        kept = session.kept(samples)
        assert kept
        documents = tuple(len(task.order) for task in self._tasks)
        return ScoredCheckpoint(samples, kept.train_seconds, scores, documents)

    def export(self, candidate: Candidate, folder: Path, scores: Sequence[str]) -> list[str]:
        """Write a candidate as it stands as a Hugging Face folder, see `alignment.export`.

        Args:
            candidate: `stand` was called for it last.
            folder: new, or empty.
            scores: lines about it for the model card.

        Returns:
            What the folder needs beyond transformers' own class, a sentence each.
        """
        session = self._session(candidate)
        self._current = None  # merging ends its training
        return export(session.vlm, folder, session.card(scores))

    def _session(self, candidate: Candidate) -> AlignmentSession:
        if self._current is None or self._current[0] != candidate:
            self._drop()  # free the last candidate before the next one is loaded
            self._current = (candidate, self._new_session(candidate))
        return self._current[1]

    def _drop(self) -> None:
        if self._current:
            self._current[1].close()
        self._current = None

    def _new_session(self, candidate: Candidate) -> AlignmentSession:
        encoder, llm = self._pool.parts(candidate)
        return AlignmentSession(
            encoder,
            llm,
            settings=self._settings.alignment,
            seed=self._settings.seed,
            data=self._data,
            checkpoints=self._checkpoints,
            machine=self._machine,
            check=lambda samples: self._check(candidate, (), samples),
        )


def _address(kept: Kept, merged: bool) -> str:  # noqa: FBT001
    """Where scores of a checkpoint are kept; those of its merged weights apart."""
    return f"{kept.address}:merged" if merged else kept.address


def _told(score: Score) -> str:
    text = f"{100 * score.value:.1f} ± {100 * score.stderr:.1f} % on {score.task}"
    if score.nll is not None:
        text += f", -ln p {score.nll:.2f}"
    if score.guessed is not None:
        text += f" ({100 * score.guessed:.0f} % of the answers could not be read and were drawn)"
    return text
