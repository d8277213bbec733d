"""Everything heavy a study works with: models, data, tasks, device. Importing it loads torch."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore, model_part
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.parallel import is_sharded, open_accelerator
from mordal_optuna.alignment.session import Machine
from mordal_optuna.config import adapted
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import ConfigError, MordalError
from mordal_optuna.evaluation.identity import TaskPart
from mordal_optuna.evaluation.score import plugin_problem
from mordal_optuna.evaluation.tasks import build_task, task_images
from mordal_optuna.files.inputs import DATA, Watch
from mordal_optuna.models.export import check_folder
from mordal_optuna.models.loading import check_model, load_config
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.launch import launched
from mordal_optuna.progress import Silent
from mordal_optuna.study.result import FurtherScore
from mordal_optuna.study.warnings import StudyFacts
from mordal_optuna.workbench.align_and_score import AlignAndScore
from mordal_optuna.workbench.comparison import Comparison
from mordal_optuna.workbench.measurements import measurement_of
from mordal_optuna.workbench.score_store import ScoreStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mordal_optuna.config import StudySettings, TaskSettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.files.inputs import Inputs, Part
    from mordal_optuna.pool import Candidate, ModelSource
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.study.claims import ClaimStore
    from mordal_optuna.study.result import Representation
    from mordal_optuna.workbench.align_and_score import ScoredCheckpoint


class Workbench:
    """What is opened once and used by every trial."""

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
    ) -> None:
        """Hold the opened parts; see `open_workbench`.

        Args:
            settings: the study, its defaults adapted to the alignment set.
            data: the alignment set.
            tasks: the target task, then the further ones in the study file's order.
            machine: where to compute.
            progress: is told of everything.
            watch: the inputs as they were opened; None on a process that does not lead.
            claims: guard the checkpoints of what is trained under them.
        """
        self.settings = settings
        self._data = data
        self._tasks = tasks
        self._machine = machine
        self._progress = progress
        self._watch = watch
        self._aligner = AlignAndScore(
            settings,
            data=data,
            checkpoints=CheckpointStore(
                settings.checkpoint_folder(),
                keep=None if settings.checkpoints.keep == "all" else 2,
            ),
            scores=ScoreStore(settings.storage_url()) if machine.processes.is_main else None,
            tasks=tasks,
            machine=machine,
            progress=progress,
            watch=watch,
            claims=claims,
        )

    @property
    def full_samples(self) -> int:
        """D, the size of one full alignment."""
        return len(self._data)

    @property
    def inputs(self) -> Inputs:
        """Digests of data, tasks and models as they were opened; on the leading process."""
        assert self._watch
        return self._watch.inputs

    def kept(self, candidate: Candidate) -> list[int]:
        """Rungs of a candidate that have a checkpoint made of the present inputs."""
        return self._aligner.kept(candidate)

    @property
    def facts(self) -> StudyFacts:
        """What warnings about the result need to know."""
        recipe = self.settings.alignment
        return StudyFacts(
            self._tasks[0].chance, recipe.warmup_samples, recipe.batch_size, self._data.left_out
        )

    def measure(self, candidate: Candidate, samples: int) -> Measurement:
        """Align a candidate to a rung and score it on the target task."""
        found: Measurement = self._lead("measure", candidate, samples)
        return found

    def compare(self) -> Representation:
        """Compare the models on the target task's images."""
        found: Representation = self._lead("compare")
        return found

    def score_further(self, candidate: Candidate, samples: int) -> list[dict[str, Any]]:
        """Score a candidate's checkpoint on the further tasks of the study file."""
        found: list[dict[str, Any]] = self._lead("score_further", candidate, samples)
        return found

    def stand(self, candidate: Candidate, *, train: bool) -> ScoredCheckpoint:
        """Go to a candidate's highest checkpoint, or to all samples, and score it on all tasks."""
        found: ScoredCheckpoint = self._lead("stand", candidate, train)
        return found

    def check_export(self, folder: Path) -> None:
        """Refuse what cannot be exported here, before any device time is spent.

        Raises:
            ModelError: if the folder holds something already.
            ConfigError: if the LLM is cut up over the processes of the launch.
        """
        check_folder(folder)
        if is_sharded(open_accelerator(self._machine.device)):
            raise ConfigError(
                [
                    "accelerate: distributed_type is FSDP, which cuts the LLM up, and an export "
                    "writes it whole; start `mordal export` without FSDP"
                ]
            )

    def export(self, candidate: Candidate, folder: Path, scores: Sequence[str]) -> list[str]:
        """Write a candidate as it stands as a Hugging Face folder; one process does that."""
        return self._aligner.export(candidate, folder, scores)

    def follow(self) -> None:
        """Do what the leading process does, until it dismisses.

        An error is on all processes, and the leading one decides what follows from it.
        """
        processes = self._machine.processes
        while True:
            command: tuple[str, tuple[Any, ...]] | None = processes.broadcast(None)
            if command is None:
                return
            with suppress(MordalError):
                self._do(*command)

    def dismiss(self) -> None:
        """Let the following processes end."""
        self._machine.processes.broadcast(None)

    def _lead(self, command: str, *given: Any) -> Any:
        self._machine.processes.broadcast((command, given))
        return self._do(command, given)

    def _do(self, command: str, given: tuple[Any, ...]) -> Any:
        works: dict[str, Callable[..., Any]] = {
            "measure": self._aligner,
            "compare": self._compare,
            "score_further": self._score_further,
            "stand": lambda candidate, train: self._aligner.stand(candidate, train=train),
        }
        return self._machine.processes.run_on_all(lambda: works[command](*given))

    def _compare(self) -> Representation:
        images = task_images(self._tasks[0], self.settings.representation.images)
        return Comparison(
            self.settings,
            data=self._data,
            images=images,
            machine=self._machine,
            folder=self.settings.workdir / "representation",
            progress=self._progress,
        ).run()

    def _score_further(self, candidate: Candidate, samples: int) -> list[dict[str, Any]]:
        scores = []
        for found in self._aligner.score_further(candidate, samples) or ():
            self._progress.note(f"{candidate}: {100 * found.value:.1f} % on {found.task}")
            score = FurtherScore(found.task, measurement_of(found, samples))
            scores.append(score.to_json())
        return scores


def open_workbench(
    settings: StudySettings, progress: Progress, claims: ClaimStore | None = None
) -> Workbench:
    """Open and check everything a study needs before device time is spent.

    Defaults are adapted to the alignment set that was read; `Workbench.settings` has them. On
    several processes the leading one goes first: what it has checked, the others find checked.

    Args:
        settings: the study.
        progress: is told of everything.
        claims: under which this process trains; None where it trains under none.

    Raises:
        ConfigError: if the device cannot be used.
        ModelError: if a model is missing or not supported.
        DataError: if the alignment set cannot be trained on.
        TaskError: if a task cannot be built.
    """
    torch.set_num_threads(settings.runtime.threads)
    device, processes = join_processes(settings)
    first = processes.run_on_all(
        lambda: _open(settings, progress, device, processes, claims) if processes.is_main else None
    )
    return processes.run_on_all(
        lambda: first or _open(settings, progress, device, processes, claims)
    )


def join_processes(settings: StudySettings) -> tuple[torch.device, Processes]:
    """This process's device, and the others of its launch."""
    device = find_device(settings.runtime.device)
    if launched() == 1:
        return device, Processes()
    return open_accelerator(device).device, Processes.join()


def _open(
    settings: StudySettings,
    progress: Progress,
    device: torch.device,
    processes: Processes,
    claims: ClaimStore | None,
) -> Workbench:
    pool = settings.models()
    for source in pool.vision_encoders:
        check_model(source, "vision_encoder")
    for source in pool.llms:
        check_model(source, "llm")
    data = _read_data(settings, progress)
    settings, chosen = adapted(settings, len(data))
    if chosen:
        progress.note(chosen)
    tasks = [_task(settings, task) for task in (settings.task, *settings.also_score)]
    hidden = plugin_problem() if processes.is_main else None
    if hidden:
        progress.note(f"{hidden}; this study does without it")
    machine = Machine(
        device,
        features=settings.workdir / "features",
        feature_bytes=int(
            settings.runtime.feature_cache_gb * 1e9 / len(settings.pool.vision_encoders)
        ),
        threads=settings.runtime.data_threads,
        trackers=settings.runtime.trackers,
        project=settings.study,
        logs=str(settings.workdir / "logs"),
        processes=processes,
    )
    return Workbench(
        settings,
        data=data,
        tasks=tasks,
        machine=machine,
        progress=progress,
        watch=_watch(settings, data, tasks, machine) if processes.is_main else None,
        claims=claims,
    )


def _watch(
    settings: StudySettings, data: AlignmentSet, tasks: list[Task], machine: Machine
) -> Watch:
    """Data, tasks and models as they were opened, and how each is read anew."""
    pool = settings.models()
    readers: dict[str, Callable[[], Part]] = {
        f"{kind}:{source.name}": partial(_read_model, source, machine)
        for kind, sources in (("vision_encoder", pool.vision_encoders), ("llm", pool.llms))
        for source in sources
    }
    parts = {name: read() for name, read in readers.items()}
    readers[DATA], parts[DATA] = partial(_read_data, settings, Silent()), data
    for task, wanted in zip(tasks, (settings.task, *settings.also_score), strict=True):
        name = f"task:{task.name}"
        readers[name] = partial(_read_task, settings, wanted)
        parts[name] = TaskPart(task)
    return Watch(settings.study, parts, readers)


def _read_model(source: ModelSource, machine: Machine) -> Part:
    return model_part(source, load_config(source), machine.files)


def _read_data(settings: StudySettings, progress: Progress) -> AlignmentSet:
    return AlignmentSet.read(
        settings.alignment,
        seed=settings.seed,
        progress=progress,
        checked=settings.workdir,
        threads=settings.runtime.data_threads,
    )


def _read_task(settings: StudySettings, task: TaskSettings) -> Part:
    return TaskPart(_task(settings, task))


def find_device(name: str) -> torch.device:
    """The torch device a study file names; `auto` takes the accelerator where there is one.

    Raises:
        ConfigError: if torch has no such device here.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            [f"runtime.device: got {name!r}; torch cannot use it here ({reason}); try 'cpu'"]
        ) from error
    return device


def _task(settings: StudySettings, task: TaskSettings) -> Task:
    built = build_task(task, [*settings.task_folders, shipped("tasks")], seed=settings.seed)
    for early in task.early_documents:
        built.subset(early.documents)  # refused now if there are not so many
    return built
