"""One candidate on its way through the rungs: assembled, restored, trained, saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.checkpoint import (
    Checkpoint,
    model_identity,
    run_address,
    run_identity,
)
from mordal_optuna.alignment.features import FeatureCache, feature_identity
from mordal_optuna.alignment.parallel import is_sharded, open_accelerator, shard_frozen
from mordal_optuna.alignment.schedule import branch_to
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.errors import CheckpointError, ModelError, TrainingError
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, merge
from mordal_optuna.models.loading import load_config
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.outages import is_outage, raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.train import TrunkState
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Progress

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True)
class Machine:
    """Where and with what candidates are trained; shapes no result but for rounding.

    Attributes:
        device: of this process.
        features: folder of encoders' features; None computes them every time.
        feature_bytes: disk space for one encoder's.
        threads: that decode images.
        trackers: Accelerate's, by name.
        project: what trackers file runs under.
        logs: folder of trackers that write files.
        processes: of this launch, that train one candidate together.
        files: digests of models' files, so that each is read once.
    """

    device: torch.device
    features: Path | None = None
    feature_bytes: int = 0
    threads: int = 2
    trackers: tuple[str, ...] = ()
    project: str = "mordal"
    logs: str = "."
    processes: Processes = field(default_factory=Processes)
    files: FileDigests = field(default_factory=FileDigests)

    def cache(
        self,
        encoder: ModelSource,
        data: AlignmentSet,
        settings: AlignmentSettings,
        processes: int,
    ) -> FeatureCache | None:
        """The cache of an encoder's features of the alignment set."""
        if self.features is None or not self.feature_bytes:
            return None
        identity = feature_identity(
            model_identity(encoder, load_config(encoder), self.files),
            data,
            precision=settings.precision,
            share=settings.batch_size // processes,
            device=self.device,
        )
        return FeatureCache(self.features, identity, budget_bytes=self.feature_bytes)


@dataclass(frozen=True)
class Kept:
    """A checkpoint as it is addressed.

    Attributes:
        address: of the run, with the digest of the weights that are scored.
        train_seconds: device-seconds spent from the start up to it.
    """

    address: str
    train_seconds: float


class AlignmentSession:
    """Aligns one candidate to growing numbers of samples, reusing its checkpoints.

    Nothing is loaded before the first `advance`. Between calls the live candidate holds the
    weights that are scored: those of the trunk, of their average, or of the end of a cool-down.
    """

    def __init__(
        self,
        vision_encoder: ModelSource,
        llm: ModelSource,
        *,
        settings: AlignmentSettings,
        seed: int,
        data: AlignmentSet,
        checkpoints: CheckpointStore,
        machine: Machine,
        check: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare a candidate.

        Args:
            vision_encoder: stays frozen.
            llm: gets LoRA.
            settings: the recipe.
            seed: of initial weights and dropout.
            data: the alignment set.
            checkpoints: where trained parts are kept and found.
            machine: where to train.
            check: raises where the data or the models are others now, as far as a rung needs
                them; asked on the leading process before a checkpoint is written.
        """
        self._encoder = vision_encoder
        self._llm = llm
        self._settings = settings
        self._seed = seed
        self._data = data
        self._checkpoints = checkpoints
        self._machine = machine
        self._check = check
        self._accelerator = open_accelerator(machine.device, machine.trackers, machine.logs)
        self._vlm: Vlm | None = None
        self._trainer: Trainer | None = None
        # What training goes on from, where the live weights are others.
        self._trunk: TrunkState | None = None
        self._samples = 0
        self._train_seconds = 0.0
        self._spent_seconds = 0.0

    @property
    def vlm(self) -> Vlm:
        """The live candidate.

        Raises:
            TrainingError: before the first `advance`.
        """
        if self._vlm is None:
            raise TrainingError(0, "the candidate is not loaded; advance it to a rung first")
        return self._vlm

    @property
    def samples(self) -> int:
        """Samples of the rung the live candidate stands at."""
        return self._samples

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean loss per target token of every step this session has run, in order."""
        return tuple(self._trainer.losses) if self._trainer else ()

    @property
    def train_seconds(self) -> float:
        """Device-seconds spent on this candidate from the start to its position, in all runs."""
        return self._train_seconds

    @property
    def spent_seconds(self) -> float:
        """Device-seconds that this session itself has trained, loading included."""
        return self._spent_seconds

    def advance(self, samples: int, progress: Progress, guard: Guard | None = None) -> None:
        """Align to a rung and keep a checkpoint there.

        Each call restores the highest checkpoint that lies beyond the present position, but not
        beyond the rung; a damaged one is reported and the one below it used.

        Args:
            samples: a whole number of batches, not below the present rung.
            progress: is told of samples done, and of damaged checkpoints.
            guard: the claim it is trained under; None where there is none, or on a process that
                does not lead.

        Raises:
            LeaseLostError: if the claim was lost; the other worker's checkpoint stays.
            StoreError: if nobody can say whether it was.
            ModelError: if the candidate cannot be assembled.
            DataError: if a sample cannot be trained on.
            TrainingError: if training fails; the last checkpoint stays.
            CheckpointError: if the checkpoint cannot be written.
            InputsChangedError: if data or a model changed while it was trained.
        """
        start = perf_counter()
        identity = self._identity
        run = run_address(identity)
        together = self._machine.processes.run_on_all
        trainer = self._trainer or together(lambda: self._open(run))
        if self._samples < samples:
            together(lambda: self._catch_up(trainer, run, samples, progress))
        if self._samples == samples:
            return
        if samples < self._samples:
            raise TrainingError(
                self._samples, f"asked for {samples} samples, which lie behind this candidate"
            )
        with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
            trunk, scored = self._train_and_settle(trainer, samples, progress, guard)
        self._trunk = trunk if scored is not None else None
        self._samples = samples
        spent = (perf_counter() - start) * self._accelerator.num_processes
        self._train_seconds += spent
        self._spent_seconds += spent
        weights = trunk.weights if scored is None else scored
        together(lambda: self._save(run, identity, trunk, weights, guard))

    def rungs(self) -> list[int]:
        """Samples of the checkpoints that are kept, without loading anything."""
        return self._checkpoints.rungs(run_address(self._identity))

    def kept(self, samples: int) -> Kept | None:
        """The checkpoint of a rung, without loading anything; None where there is none.

        Raises:
            CheckpointError: in an outage, in which nobody can tell.
        """
        run = run_address(self._identity)
        if samples not in self._checkpoints.rungs(run):
            return None
        try:
            found = self._checkpoints.files.manifest(run, samples)
        except CheckpointError as error:
            if is_outage(error):
                raise
            return None  # damaged: `advance` says so, and goes on from the rung below
        return Kept(f"{run}:{found.parts['trained']}", found.facts["train_seconds"])

    def restore(self, progress: Progress) -> None:
        """Go to the highest checkpoint without training, whichever study has written it.

        A damaged one is reported and the one below it used.

        Args:
            progress: is told of damaged checkpoints.

        Raises:
            ModelError: if the candidate cannot be assembled.
            CheckpointError: if there is no readable checkpoint.
        """
        run = run_address(self._identity)
        together = self._machine.processes.run_on_all
        found = together(lambda: self._latest(run, len(self._data), progress))
        if found is None:
            name = f"{self._encoder.name} + {self._llm.name}"
            reason = f"no whole checkpoint of {name} is there; train it first"
            raise CheckpointError(run, f"{reason}, as `mordal export --train` does")
        trainer = self._trainer or together(lambda: self._open(run))
        self._restore(trainer, found)

    def merge(self) -> None:
        """Fold LoRA into the LLM, as an export does; the candidate cannot be trained on then."""
        merge(self.vlm)

    def card(self, scores: Sequence[str]) -> ModelCard:
        """What a model card says of the candidate at its present rung.

        Args:
            scores: lines about it.
        """
        recipe = self._settings.model_dump(
            mode="json", exclude={"conversations", "images", "dataset", "samples"}
        )
        return ModelCard(
            vision_encoder=self._encoder,
            llm=self._llm,
            samples=self._samples,
            data=self._data.name,
            data_digest=self._data.digest,
            seed=self._seed,
            recipe=recipe,
            scores=scores,
            versions={name: version(name) for name in LIBRARIES},
        )

    def close(self) -> None:
        """End what trackers follow."""
        if self._machine.trackers:
            self._accelerator.end_training()

    def _train_and_settle(
        self, trainer: Trainer, samples: int, progress: Progress, guard: Guard | None
    ) -> tuple[TrunkState, Mapping[str, torch.Tensor] | None]:
        """Go to a rung, with the weights to be scored in place.

        Returns:
            What training goes on from, and the scored weights where they are others.
        """
        if self._trunk:
            trainer.restore(self._trunk)
        trunk = self._train(trainer, samples, progress, guard)
        scored = trunk.average
        if scored is not None:
            trainer.load_weights(scored, samples)
        elif trunk.samples != samples:
            scored = trainer.state().weights
        return trunk, scored

    def _train(
        self, trainer: Trainer, samples: int, progress: Progress, guard: Guard | None
    ) -> TrunkState:
        """Go to a rung; what training goes on from after it."""
        branch = branch_to(self._settings, samples)
        title = f"align {self._encoder.name} + {self._llm.name} to {samples}"
        with progress.track(title, samples - trainer.samples) as advance:
            if branch is None:
                trainer.run(samples, advance, None, guard)
                return trainer.state()
            trainer.run(max(branch.start, trainer.samples), advance, None, guard)
            trunk = trainer.state()
            trainer.run(samples, advance, branch, guard)
        return trunk

    def _save(
        self,
        run: str,
        identity: Mapping[str, object],
        trunk: TrunkState,
        scored: Mapping[str, torch.Tensor],
        guard: Guard | None,
    ) -> None:
        if not self._machine.processes.is_main:
            return
        if self._check:
            self._check(self._samples)
        checkpoint = Checkpoint(
            samples=self._samples,
            trained=scored,
            trunk=trunk,
            train_seconds=self._train_seconds,
            versions={name: version(name) for name in LIBRARIES},
            candidate=f"{self._encoder.name} + {self._llm.name}",
            sources={"vision_encoder": self._encoder, "llm": self._llm},
        )
        self._checkpoints.save(run, identity, checkpoint, guard)

    def _open(self, run: str) -> Trainer:
        name = f"{self._encoder.name} + {self._llm.name}"
        with raised_as(lambda reason: ModelError(name, f"cannot be made ready ({reason})")):
            return self._assembled(run)

    def _assembled(self, run: str) -> Trainer:
        machine, accelerator = self._machine, self._accelerator
        sharded = is_sharded(accelerator)
        self._vlm = assemble(
            self._encoder,
            self._llm,
            lora=self._settings.lora,
            precision=self._settings.precision,
            seed=self._seed,
            device=torch.device("cpu") if sharded else machine.device,
            attention=self._settings.attention,
        )
        if sharded:
            shard_frozen(self._vlm, machine.device)
        if machine.trackers:
            accelerator.init_trackers(
                f"{machine.project}-{self._encoder.name}-{self._llm.name}", config={"run": run}
            )
        self._trainer = Trainer(
            self._vlm,
            settings=self._settings,
            data=self._data,
            seed=self._seed,
            accelerator=accelerator,
            device=machine.device,
            processes=machine.processes,
            cache=machine.cache(
                self._encoder, self._data, self._settings, accelerator.num_processes
            ),
            threads=machine.threads,
        )
        return self._trainer

    def _catch_up(self, trainer: Trainer, run: str, samples: int, progress: Progress) -> None:
        """Go to the highest checkpoint on the way: it may have been trained for another task."""
        found = self._latest(run, samples, progress)
        if found:
            with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
                self._restore(trainer, found)

    def _restore(self, trainer: Trainer, found: Checkpoint) -> None:
        trainer.restore(found.trunk)
        self._trunk = None
        if found.trunk.samples != found.samples or found.trunk.average is not None:
            trainer.load_weights(found.trained, found.samples)
            self._trunk = found.trunk
        self._samples = found.samples
        self._train_seconds = found.train_seconds

    def _latest(self, run: str, at_most: int, progress: Progress) -> Checkpoint | None:
        ahead = [r for r in self._checkpoints.rungs(run) if self._samples < r <= at_most]
        for rung in reversed(ahead):
            try:
                return self._checkpoints.load(run, rung)
            except CheckpointError as error:
                if is_outage(error):
                    raise  # it may be whole
                progress.note(f"{error}; going on from the rung below")
        return None

    @cached_property
    def _identity(self) -> dict[str, object]:
        """Taken once: what is loaded stays what it was, whatever becomes of its files."""
        return run_identity(
            (self._encoder, load_config(self._encoder)),
            (self._llm, load_config(self._llm)),
            settings=self._settings,
            data_digest=self._data.digest,
            seed=self._seed,
            files=self._machine.files,
        )


def warm_up(
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    settings: AlignmentSettings,
    seed: int,
    data: AlignmentSet,
    samples: int,
    machine: Machine,
    progress: Progress,
) -> Vlm:
    """A candidate whose projector alone was trained briefly, as the comparison of LLMs needs it.

    Args:
        vision_encoder: stays frozen.
        llm: stays frozen.
        settings: the recipe; its LoRA is not used, its warm-up of the rate is cut to the whole.
        seed: of the projector's initial weights.
        data: the alignment set; its first samples are used.
        samples: how many of them, cut to whole batches, at least one.
        machine: where to train.
        progress: is told of samples done.
    """
    vlm = assemble(
        vision_encoder,
        llm,
        lora=None,
        precision=settings.precision,
        seed=seed,
        device=machine.device,
        attention=settings.attention,
    )
    batches = max(1, min(samples, len(data)) // settings.batch_size)
    short = settings.model_copy(
        update={
            "warmup_samples": min(settings.warmup_samples, settings.batch_size),
            "schedule": "constant",
        }
    )
    accelerator = open_accelerator(machine.device)
    trainer = Trainer(
        vlm,
        settings=short,
        data=data,
        seed=seed,
        accelerator=accelerator,
        device=machine.device,
        processes=machine.processes,
        cache=machine.cache(vision_encoder, data, settings, accelerator.num_processes),
        threads=machine.threads,
    )
    until = batches * settings.batch_size
    with progress.track(f"warm up {vision_encoder.name} + {llm.name}", until) as advance:
        trainer.run(until, advance)
    return vlm


def with_projector(
    vision_encoder: ModelSource,
    llm: ModelSource,
    projector: Mapping[str, np.ndarray],
    *,
    settings: AlignmentSettings,
    device: torch.device,
) -> Vlm:
    """The candidate that `warm_up` gave, from the trained parameters it had.

    Args:
        vision_encoder: as it was given there.
        llm: as it was given there.
        projector: all of the candidate's trainable parameters by name.
        settings: the recipe.
        device: where the model lives.
    """
    vlm = assemble(
        vision_encoder,
        llm,
        lora=None,
        precision=settings.precision,
        seed=0,  # of weights that are replaced
        device=device,
        attention=settings.attention,
    )
    with torch.no_grad():
        for name, parameter in vlm.trainable().items():
            parameter.copy_(torch.from_numpy(projector[name]))
    return vlm
