"""Measurement of a candidate: align it to a rung, then score it with lmms-eval.

Each measurement is a method for rank 0, which returns the result, and one for the other ranks,
which takes part in the same work and returns nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.evaluation.score import score, score_by_engine
from mordal_optuna.models.export import export
from mordal_optuna.models.generation import generation_mark
from mordal_optuna.models.merging import merged_meanwhile
from mordal_optuna.search.tasks import PartialMeasurement, weighted_mean
from mordal_optuna.study.warnings import at_chance
from mordal_optuna.workbench.measurements import (
    ScoredCheckpoint,
    differing_text,
    score_text,
    task_measurements,
    tracked_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.alignment.runs import CheckpointInfo
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
class _ScoredRung:
    """A rung of a candidate with its scores.

    Attributes:
        train_seconds: device-seconds of training from the start to this rung; 0 on other ranks.
        scores: one score per task, in the order asked for; empty on other ranks.
    """

    train_seconds: float = 0.0
    scores: tuple[Score, ...] = ()


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
            data: alignment set.
            checkpoints: store of trained weights.
            scores: store of scores; None on other ranks.
            tasks: target tasks, then the further tasks, in the study file's order.
            machine: device, ranks and caches.
            progress: receives progress updates and scores.
            watch: the study's inputs, checked before and after each rung; None to check nothing,
                and on other ranks.
            claims: claims of this worker, which guard its checkpoints; None if no other worker
                can train, and on other ranks.
        """
        self._settings = settings
        self._pool = settings.models()
        self._data = data
        self._checkpoints = checkpoints
        self._scores = scores
        self._tasks = tuple(tasks)
        self._targets, self._further = (
            self._tasks[: len(settings.targets)],
            self._tasks[len(settings.targets) :],
        )
        self._machine = machine
        self._progress = progress
        self._watch = watch
        self._claims = claims
        self._current: tuple[Candidate, AlignmentSession] | None = None
        self._warned_of_chance: set[str] = set()
        self._marks: dict[str, str] = {}

    def measure(self, candidate: Candidate, samples: int) -> Measurement:
        """Rank 0: align a candidate to a rung and score it on the target tasks.

        The further tasks are scored in the same pass if the study file says
        `also_score_at: rungs`.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        whole = self._measured(candidate, samples, ())
        weights = self._settings.task_weights
        if not weights:
            (only,) = whole.by_task.values()
            return replace(only, time=whole.time)
        return replace(weighted_mean(whole.by_task, weights), time=whole.time)

    def measure_tasks(
        self, candidate: Candidate, samples: int, asked: Sequence[str]
    ) -> PartialMeasurement:
        """Rank 0: the same on some of the target tasks.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.
            asked: names of the target tasks to score, at least one.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        return self._measured(candidate, samples, asked)

    def _measured(
        self, candidate: Candidate, samples: int, asked: Sequence[str]
    ) -> PartialMeasurement:
        session, clock = self._session(candidate), self._machine.clock
        spent_before = session.spent_seconds
        tasks = self._rung_tasks(samples, asked)
        clock.take()  # what was spent on another rung, or on one that failed
        with clock.span("other"):
            rung = self._score_rung(tasks, candidate, samples)
        time = clock.take(self._machine.processes.world_size, self._settings.alignment.precision)
        self._progress.note(
            f"{candidate} at {samples} samples: " + "; ".join(map(score_text, rung.scores))
        )
        measurements = task_measurements(
            rung.scores,
            tasks,
            targets=len(asked) or len(self._targets),
            samples=samples,
            train_seconds=rung.train_seconds,
            train_spent=session.spent_seconds - spent_before,
            again=bool(asked),
        )
        session.tracked.log(tracked_values(rung.scores, rung.train_seconds), samples)
        self._warn_of_chance(candidate, measurements)
        return PartialMeasurement(samples, measurements, time)

    def follow_measure(
        self, candidate: Candidate, samples: int, asked: Sequence[str] = ()
    ) -> None:
        """Other ranks: take part in `measure`."""
        self._score_rung(self._rung_tasks(samples, asked), candidate, samples)

    def score_further(self, candidate: Candidate, samples: int) -> tuple[Score, ...]:
        """Rank 0: score a candidate's rung on all further tasks, in one pass.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.

        Returns:
            One score per further task, in the study file's order.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        tasks = self._with_documents(self._further, samples)
        return self._score_rung(tasks, candidate, samples).scores

    def follow_further(self, candidate: Candidate, samples: int) -> None:
        """Other ranks: take part in `score_further`."""
        self._score_rung(self._with_documents(self._further, samples), candidate, samples)

    def score_checkpoint(self, candidate: Candidate, *, train: bool) -> ScoredCheckpoint:
        """Rank 0: load a candidate's highest checkpoint and score it on all tasks for export.

        In fp32, merging LoRA does not change the scores, so the export has the scores of the
        checkpoint. In bf16, merging rounds the weights, and answers that were nearly tied can
        change: the merged weights are scored separately. Scores of the same weights are looked
        up, whichever study stored them.

        Args:
            candidate: the pair.
            train: whether to train it on all alignment samples first.

        Raises:
            CheckpointError: if `train` is False and the candidate has no checkpoint.
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        session, rung = self._restore_and_score(candidate, train=train)
        documents = tuple(len(task.order) for task in self._tasks)
        return ScoredCheckpoint(session.samples, rung.train_seconds, rung.scores, documents)

    def follow_checkpoint(self, candidate: Candidate, *, train: bool) -> None:
        """Other ranks: take part in `score_checkpoint`."""
        self._restore_and_score(candidate, train=train)

    def export(self, candidate: Candidate, folder: Path, scores: Sequence[str]) -> list[str]:
        """Rank 0: write a candidate as a Hugging Face folder, see `models.export.export`.

        Args:
            candidate: the pair that `score_checkpoint` was last called for.
            folder: new or empty folder.
            scores: lines about the scores for the model card.

        Returns:
            What the folder needs beyond transformers' own class, a sentence each.
        """
        session = self._session(candidate)
        self._current = None  # merged weights cannot be trained any further
        return export(session.vlm, folder, session.card(scores))

    def track(self, candidate: Candidate, values: Mapping[str, float], samples: int) -> None:
        """Rank 0, without the others: pass numbers about a rung to the trackers.

        Args:
            candidate: the pair; nothing is passed on unless it was measured last.
            values: numbers by name.
            samples: number of alignment samples at the rung.
        """
        if self._current and self._current[0] == candidate:
            self._current[1].tracked.log(values, samples)

    def rungs(self, candidate: Candidate) -> list[int]:
        """Rungs of a candidate that have a checkpoint made from the present inputs."""
        return self._new_session(candidate).rungs()

    def _restore_and_score(
        self, candidate: Candidate, *, train: bool
    ) -> tuple[AlignmentSession, _ScoredRung]:
        self._drop()  # the present session may be merged already
        session = self._session(candidate)
        if train:
            session.advance(len(self._data), self._progress)
        else:
            session.restore(self._progress)
        merged = self._settings.alignment.precision != "fp32"
        tasks = self._with_documents(self._tasks, session.samples)
        return session, self._score_rung(tasks, candidate, session.samples, merged=merged)

    def _rung_tasks(self, samples: int, asked: Sequence[str]) -> list[Task]:
        """The tasks that are scored at a rung: all target tasks or those asked for come first."""
        targets = [task for task in self._targets if not asked or task.name in asked]
        further = self._further if self._settings.also_score_at == "rungs" else ()
        return self._with_documents((*targets, *further), samples)

    def _with_documents(self, tasks: Sequence[Task], samples: int) -> list[Task]:
        """Tasks on the documents that a rung is scored on."""
        wanted = {task.name: task for task in self._settings.scored_tasks}
        sized = []
        for task in tasks:
            count = wanted[task.name].documents_at(
                samples,
                len(self._data),
                documents=len(task.documents),
                tasks=self._settings.tasks_per_rung,
            )
            sized.append(task.subset(count))
        return sized

    def _score_rung(
        self,
        tasks: Sequence[Task],
        candidate: Candidate,
        samples: int,
        *,
        merged: bool = False,
    ) -> _ScoredRung:
        """Look up a rung's scores; align the candidate and score it for those that are missing.

        Args:
            tasks: tasks with different names.
            candidate: the pair.
            samples: number of alignment samples at the rung.
            merged: whether to merge LoRA for good, which ends its training.

        Raises:
            InputsChangedError: if data, a task or a model has changed since the study was opened.
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        processes = self._machine.processes
        as_exported = merged or self._settings.evaluation.merged
        processes.run_on_all(lambda: self._check(candidate, tasks, samples))
        session = self._session(candidate)
        checkpoint, scores = processes.run_on_all(
            lambda: self._stored_scores(session, candidate, tasks, samples, merged=as_exported)
        )
        missing = processes.broadcast([t.name for t in tasks if t.name not in scores])
        if missing:
            asked = [task for task in tasks if task.name in missing]
            try:
                self._align(session, candidate, samples, merged=merged)
                checkpoint = session.checkpoint
                with merged_meanwhile(session.vlm) if as_exported > merged else nullcontext():
                    scores |= self._score(session, candidate, asked, samples)
            except BaseException:
                # Its weights may be between two rungs, or half gathered; checkpoints are not.
                self._current = None
                raise
            self._store_scores(checkpoint, candidate, asked, scores, merged=as_exported)
        if not processes.is_main or checkpoint is None:
            return _ScoredRung()
        return _ScoredRung(checkpoint.train_seconds, tuple(scores[task.name] for task in tasks))

    def _align(
        self, session: AlignmentSession, candidate: Candidate, samples: int, *, merged: bool
    ) -> None:
        guard: Guard | None = self._claims.guard(candidate) if self._claims else None
        session.advance(samples, self._progress, guard)
        if merged:
            session.merge()

    def _score(
        self, session: AlignmentSession, candidate: Candidate, tasks: Sequence[Task], samples: int
    ) -> dict[str, Score]:
        """Scores of the live weights by task; empty on other ranks."""
        processes, wanted = self._machine.processes, self._settings.evaluation
        if wanted.engine == "live":
            scores = score(
                session.vlm.model,
                session.vlm.processor,
                tasks,
                processes=processes,
                clock=self._machine.clock,
            )
        else:
            scores = score_by_engine(
                wanted.engine,
                session.vlm,
                tasks,
                device=self._machine.device,
                arguments=wanted.arguments,
                folder=self._settings.workdir / "engine",
                clock=self._machine.clock,
            )
            self._progress.note(differing_text(scores))
        processes.run_on_all(lambda: self._check(candidate, tasks, samples))
        return {s.task: replace(s, seconds=s.seconds * processes.world_size) for s in scores or ()}

    def _stored_scores(
        self,
        session: AlignmentSession,
        candidate: Candidate,
        tasks: Sequence[Task],
        samples: int,
        *,
        merged: bool,
    ) -> tuple[CheckpointInfo | None, dict[str, Score]]:
        """A rung's checkpoint and its stored scores by task; None and empty on other ranks."""
        checkpoint = session.find_checkpoint(samples) if self._scores else None
        if checkpoint is None or self._scores is None:
            return None, {}
        address = self._score_address(checkpoint, candidate, merged=merged)
        stored = {task.name: self._scores.get(address, task.identity) for task in tasks}
        return checkpoint, {name: replace(s, found=True) for name, s in stored.items() if s}

    def _store_scores(
        self,
        checkpoint: CheckpointInfo | None,
        candidate: Candidate,
        tasks: Sequence[Task],
        scores: dict[str, Score],
        *,
        merged: bool,
    ) -> None:
        if checkpoint and self._scores:
            address = self._score_address(checkpoint, candidate, merged=merged)
            for task in tasks:
                self._scores.put(address, task.identity, scores[task.name])

    def _score_address(
        self, checkpoint: CheckpointInfo, candidate: Candidate, *, merged: bool
    ) -> str:
        """Key of a checkpoint's scores in the store; merged weights have a key of their own.

        So has an LLM whose answers older versions generated in another way. Scores of an engine
        have one by its name and the arguments that may change answers; it scores merged weights.
        """
        llm = self._pool.parts(candidate)[1]
        if llm.name not in self._marks:
            self._marks[llm.name] = generation_mark(llm)
        mark = self._marks[llm.name]
        scored = self._settings.evaluation.mark() or "merged" * merged
        return ":".join(part for part in (checkpoint.address, scored, mark) if part)

    def _check(self, candidate: Candidate, tasks: Sequence[Task], samples: int) -> None:
        if self._watch:
            self._watch.check_candidate(candidate, [task.name for task in tasks], samples)

    def _warn_of_chance(
        self, candidate: Candidate, measurements: Mapping[str, Measurement]
    ) -> None:
        """Warn of scores no better than guessing, for the first such candidate of a task only."""
        for task in (task for task in self._targets if task.name in measurements):
            name = task.name if len(self._targets) > 1 else ""
            text = at_chance(candidate, measurements[task.name], task.chance, name)
            if text and task.name not in self._warned_of_chance:
                self._warned_of_chance.add(task.name)
                self._progress.warn(text)

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
