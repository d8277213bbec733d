"""Models, data, tasks and device of a study, opened once; importing this module loads torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, assert_never

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.parallel import is_sharded, open_accelerator
from mordal_optuna.config import adapted
from mordal_optuna.errors import ConfigError
from mordal_optuna.evaluation.engines import check_engine
from mordal_optuna.evaluation.score import plugin_problem
from mordal_optuna.models.export import check_folder
from mordal_optuna.models.hub import check_weights
from mordal_optuna.models.loading import check_model
from mordal_optuna.processes.channel import Channel
from mordal_optuna.study.result import FurtherScore
from mordal_optuna.study.warnings import StudyFacts
from mordal_optuna.workbench.align_and_score import AlignAndScore
from mordal_optuna.workbench.commands import (
    Command,
    Compare,
    Measure,
    OpenWorkbench,
    ScoreCheckpoint,
    ScoreFurther,
)
from mordal_optuna.workbench.comparison import Comparison
from mordal_optuna.workbench.devices import join_launch
from mordal_optuna.workbench.images import comparison_images
from mordal_optuna.workbench.measurements import measurement_of
from mordal_optuna.workbench.parts import open_task, read_data, watch_inputs
from mordal_optuna.workbench.prompts import rendered_prompts
from mordal_optuna.workbench.score_store import ScoreStore
from mordal_optuna.workbench.unusable import unusable_llms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.files.inputs import Inputs, Watch
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.tasks import PartialMeasurement
    from mordal_optuna.study.claims import ClaimStore
    from mordal_optuna.study.growing import Compared
    from mordal_optuna.study.result import Representation
    from mordal_optuna.study.turns import Turns
    from mordal_optuna.workbench.devices import Launch
    from mordal_optuna.workbench.measurements import ScoredCheckpoint

T = TypeVar("T")


class Workbench:
    """Everything that trials use, on every rank of the launch.

    Rank 0 calls the methods that return results. The other ranks call `follow`, and take part in
    each of them until rank 0 calls `stop_followers`.
    """

    def __init__(
        self,
        settings: StudySettings,
        *,
        data: AlignmentSet,
        tasks: list[Task],
        machine: Machine,
        progress: Progress,
        watch: Watch | None,
        claims: ClaimStore | None = None,
        unusable: Mapping[str, str] | None = None,
    ) -> None:
        """Hold parts that are open already; see `open_workbench`.

        Args:
            settings: the study, with defaults adapted to the alignment set.
            data: alignment set.
            tasks: target tasks, then the further tasks, in the study file's order.
            machine: device, ranks and caches.
            progress: receives progress updates.
            watch: the inputs as they were when opened; None on other ranks.
            claims: claims that guard the checkpoints of candidates trained under them.
            unusable: names of LLMs that cannot be trained, with the reasons; None for none.
        """
        self.settings = settings
        self._data = data
        self._tasks = tasks
        self._machine = machine
        self._progress = progress
        self._watch = watch
        self._unusable = dict(unusable or {})
        self._commands: Channel[Command] = Channel(machine.processes)
        self._aligner = AlignAndScore(
            settings,
            data=data,
            checkpoints=CheckpointStore(
                settings.checkpoint_folder(),
                keep=None if settings.checkpoints.keep == "all" else 2,
            ),
            scores=(
                ScoreStore(settings.storage_url(), progress) if machine.processes.is_main else None
            ),
            tasks=tasks,
            machine=machine,
            progress=progress,
            watch=watch,
            claims=claims,
        )

    @property
    def full_samples(self) -> int:
        """D, the number of samples of one full alignment."""
        return len(self._data)

    @property
    def inputs(self) -> Inputs:
        """Rank 0: digests of data, tasks and models as they were when opened."""
        assert self._watch
        return self._watch.inputs

    @property
    def facts(self) -> StudyFacts:
        """Facts about the study that the warnings about its result are based on."""
        recipe, weights = self.settings.alignment, self.settings.task_weights
        chances = {task.name: task.chance for task in self._tasks if task.name in weights}
        total = sum(weights.values())
        mean = sum(weights[name] / total * chance for name, chance in chances.items())
        return StudyFacts(
            mean if weights else self._tasks[0].chance,
            recipe.warmup_samples,
            recipe.batch_size,
            self._data.left_out,
            chances,
        )

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt of each LLM that can be trained, on the first document of the first task."""
        return rendered_prompts(self.settings.models().llms, self._tasks[0], self._unusable)

    def track(self, candidate: Candidate, values: Mapping[str, float], samples: int) -> None:
        """Rank 0, without the others: pass numbers about a candidate's rung to the trackers.

        Args:
            candidate: the pair; nothing is passed on unless it was measured last.
            values: numbers by name.
            samples: number of alignment samples at the rung.
        """
        self._aligner.track(candidate, values, samples)

    def rungs(self, candidate: Candidate) -> list[int]:
        """Rungs of a candidate that have a checkpoint made from the present inputs."""
        return self._aligner.rungs(candidate)

    def measure(self, candidate: Candidate, samples: int) -> Measurement:
        """Rank 0: align a candidate to a rung and score it on the target tasks.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        return self._run(
            Measure(candidate, samples), lambda: self._aligner.measure(candidate, samples)
        )

    def measure_tasks(
        self, candidate: Candidate, samples: int, tasks: Sequence[str]
    ) -> PartialMeasurement:
        """Rank 0: the same on some of the target tasks.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.
            tasks: names of the target tasks to score, at least one.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        return self._run(
            Measure(candidate, samples, tuple(tasks)),
            lambda: self._aligner.measure_tasks(candidate, samples, tasks),
        )

    def compare(
        self, before: Compared | None = None, turns: Turns | None = None
    ) -> Representation:
        """Rank 0: compare the models of the pool on images, see `comparison_images`.

        Args:
            before: what the study that this one extends has paid for; None if it extends none.
            turns: turns of the study's workers, which share out the models; None without others.

        Raises:
            MordalError: if a model cannot be loaded, or features cannot be compared.
        """
        return self._run(Compare(), lambda: self._compare(before, turns))

    def score_further(self, candidate: Candidate, samples: int) -> list[dict[str, Any]]:
        """Rank 0: score a candidate's rung on the further tasks of the study file.

        Args:
            candidate: the pair.
            samples: number of alignment samples at the rung.

        Returns:
            Fields of a `FurtherScore` per task, as they are stored with the study.

        Raises:
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        scores = self._run(
            ScoreFurther(candidate, samples),
            lambda: self._aligner.score_further(candidate, samples),
        )
        for score in scores:
            self._progress.note(f"{candidate}: {100 * score.value:.1f} % on {score.task}")
        further = [FurtherScore(s.task, measurement_of(s, samples)) for s in scores]
        return [score.to_json() for score in further]

    def score_checkpoint(self, candidate: Candidate, *, train: bool) -> ScoredCheckpoint:
        """Rank 0: load a candidate's highest checkpoint and score it on all tasks.

        Args:
            candidate: the pair.
            train: whether to train it on all alignment samples first.

        Raises:
            CheckpointError: if `train` is False and the candidate has no checkpoint.
            MordalError: if the candidate cannot be assembled, trained or scored.
        """
        return self._run(
            ScoreCheckpoint(candidate, train),
            lambda: self._aligner.score_checkpoint(candidate, train=train),
        )

    def check_export(self, folder: Path) -> None:
        """Refuse an export that cannot succeed, before any device time is spent.

        Args:
            folder: folder to export to.

        Raises:
            ModelError: if the folder is not empty, or is a file.
            ConfigError: if the LLM is sharded across the ranks of the launch.
        """
        check_folder(folder)
        if is_sharded(open_accelerator(self._machine.device)):
            raise ConfigError(
                [
                    "accelerate: distributed_type is FSDP, which shards the LLM, but an export "
                    "writes it whole; start `mordal export` without FSDP"
                ]
            )

    def export(self, candidate: Candidate, folder: Path, scores: Sequence[str]) -> list[str]:
        """Rank 0, without the others: write a candidate as a Hugging Face folder.

        Args:
            candidate: the pair that `score_checkpoint` was last called for.
            folder: new or empty folder.
            scores: lines about the scores for the model card.

        Returns:
            What the folder needs beyond transformers' own class, a sentence each.
        """
        return self._aligner.export(candidate, folder, scores)

    def follow(self) -> None:
        """Other ranks: take part in rank 0's work until it calls `stop_followers`.

        Errors are raised on all ranks; rank 0 handles them, the others wait for its next command.

        Raises:
            MordalError: rank 0's reason if it stops for an error; or if a process has ended.
        """
        self._commands.follow(self._perform)

    def stop_followers(self, error: BaseException | None = None) -> None:
        """Rank 0: let the other ranks leave `follow`.

        Args:
            error: why rank 0 stops, which the others raise as well; None if all is done.
        """
        self._commands.stop(error)

    def _run(self, command: Command, work: Callable[[], T]) -> T:
        """Send a command to the other ranks and do rank 0's part of it."""
        return self._commands.run(command, work)

    def _perform(self, command: Command) -> None:
        """Do another rank's part of a command."""
        match command:
            case Measure(candidate, samples, tasks):
                self._aligner.follow_measure(candidate, samples, tasks)
            case Compare():
                self._compare()
            case ScoreFurther(candidate, samples):
                self._aligner.follow_further(candidate, samples)
            case ScoreCheckpoint(candidate, train):
                self._aligner.follow_checkpoint(candidate, train=train)
            case _:
                assert_never(command)

    def _compare(
        self, before: Compared | None = None, turns: Turns | None = None
    ) -> Representation:
        targets = self._tasks[: len(self.settings.targets)]
        images = comparison_images(targets, self._data, self.settings, self._progress)
        return Comparison(
            self.settings,
            data=self._data,
            images=images,
            machine=self._machine,
            folder=f"{self.settings.shared_folder()}/representation",
            progress=self._progress,
            before=before,
            unusable=self._unusable,
            turns=turns,
        ).run()


def open_workbench(
    settings: StudySettings,
    progress: Progress,
    claims: ClaimStore | None = None,
    launch: Launch | None = None,
) -> Workbench:
    """Open and check everything a study needs, before device time is spent.

    Rank 0 opens it first, and the other ranks find its results (such as checked images) on disk;
    they follow by `follow_launch`.

    Args:
        settings: the study; the workbench has its defaults adapted to the alignment set.
        progress: receives progress updates.
        claims: claims under which this worker trains; None to train without claims.
        launch: device and ranks, as `join_launch` opened them; None to open them here. Rank 0
            makes the other ranks open the same study.

    Raises:
        ConfigError: if torch cannot use the device.
        ModelError: if a model is missing or not supported.
        DataError: if the alignment set cannot be trained on.
        TaskError: if a task cannot be built.
    """
    torch.set_num_threads(settings.runtime.threads)
    joined = launch or join_launch(settings.runtime.device)
    processes = joined.processes
    if processes.is_main:
        Channel[OpenWorkbench](processes).send(OpenWorkbench(settings))
    opened = processes.run_on_all(
        lambda: _open(settings, progress, joined, claims) if processes.is_main else None
    )
    return processes.run_on_all(lambda: opened or _open(settings, progress, joined, claims))


def _open(
    settings: StudySettings, progress: Progress, launch: Launch, claims: ClaimStore | None
) -> Workbench:
    pool, is_main = settings.models(), launch.processes.is_main
    if settings.runtime.trackers:
        open_accelerator(launch.device, settings.runtime.trackers)  # refuses unknown ones
    check_weights(pool)
    for source in pool.vision_encoders:
        check_model(source, "vision_encoder")
    for source in pool.llms:
        check_model(source, "llm")
    if (wanted := settings.evaluation).is_identity:
        sharded, world = is_sharded(open_accelerator(launch.device)), launch.processes.world_size
        merged = wanted.merged
        check_engine(wanted.engine, pool, merged=merged, processes=world, sharded=sharded)
    data = read_data(settings, progress)
    settings, chosen = adapted(settings, len(data))
    if chosen:
        progress.note(chosen)
    tasks = [open_task(settings, task) for task in settings.scored_tasks]
    hidden = plugin_problem() if is_main else None
    if hidden:
        progress.note(f"{hidden}; this study does without it")
    machine = _machine(settings, launch)
    return Workbench(
        settings,
        data=data,
        tasks=tasks,
        machine=machine,
        progress=progress,
        watch=watch_inputs(settings, data, tasks, machine) if is_main else None,
        claims=claims,
        unusable=unusable_llms(settings, data, progress),
    )


def _machine(settings: StudySettings, launch: Launch) -> Machine:
    cache_bytes, shared = settings.runtime.feature_cache_gb * 1e9, settings.shared_folder()
    return Machine(
        launch.device,
        features=settings.workdir / "features",
        shared_features=f"{shared}/features" if settings.runtime.shared_features else None,
        feature_bytes=int(cache_bytes / len(settings.pool.vision_encoders)),
        threads=settings.runtime.data_threads,
        trackers=settings.runtime.trackers,
        project=settings.study,
        logs=str(settings.workdir / "logs"),
        processes=launch.processes,
        stop=launch.stop,
    )
