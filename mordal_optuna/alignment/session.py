"""Alignment of one candidate through the rungs: assemble, restore, train, save."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.alignment.checkpoint import Checkpoint, run_identity
from mordal_optuna.alignment.parallel import assemble_on, open_accelerator
from mordal_optuna.alignment.runs import Run
from mordal_optuna.alignment.schedule import branch_to
from mordal_optuna.alignment.tracking import names_in
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.errors import CheckpointError, ModelError, TrainingError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, merge
from mordal_optuna.models.hub import is_local
from mordal_optuna.models.loading import load_config
from mordal_optuna.processes.outages import is_outage, raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.files import Manifest
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.alignment.train import TrunkState
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Progress

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


@dataclass(frozen=True)
class CheckpointInfo:
    """Identity and cost of a checkpoint, without its weights.

    Attributes:
        address: address of the run, a colon, and SHA-256 of the file of the scored weights.
        train_seconds: device-seconds of training from the start to the checkpoint.
    """

    address: str
    train_seconds: float


class AlignmentSession:
    """Aligns one candidate to growing numbers of samples, reusing its checkpoints.

    Nothing is loaded before the first `advance` or `restore`. Between calls the live candidate
    holds the weights that are scored: those of the trunk, their running average, or those at the
    end of a cool-down.
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
            vision_encoder: the encoder; stays frozen.
            llm: the LLM; trained by LoRA.
            settings: alignment recipe.
            seed: random seed of initial weights and dropout.
            data: alignment set.
            checkpoints: store of checkpoints.
            machine: device, ranks and caches.
            check: function that raises if the data or the models that a rung needs have changed;
                called with the rung on rank 0 before a checkpoint is written. None checks nothing.
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
        # State that training continues from; None if it is that of the live weights.
        self._trunk: TrunkState | None = None
        self._info: CheckpointInfo | None = None
        self._samples = 0
        self._train_seconds = 0.0
        self._spent_seconds = 0.0

    @property
    def vlm(self) -> Vlm:
        """The live candidate.

        Raises:
            TrainingError: if neither `advance` nor `restore` was called before.
        """
        if self._vlm is None:
            raise TrainingError(0, "the candidate is not loaded; advance it to a rung first")
        return self._vlm

    @property
    def samples(self) -> int:
        """Number of alignment samples at the live candidate's rung."""
        return self._samples

    @property
    def checkpoint(self) -> CheckpointInfo | None:
        """The checkpoint of the live weights; None before the first, and on other ranks."""
        return self._info

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean loss per target token of every step that this session has run, in order."""
        return tuple(self._trainer.losses) if self._trainer else ()

    @property
    def train_seconds(self) -> float:
        """Device-seconds of training from the start to the present rung, in all sessions."""
        return self._train_seconds

    @property
    def spent_seconds(self) -> float:
        """Device-seconds that this session has trained, loading included."""
        return self._spent_seconds

    def advance(self, samples: int, progress: Progress, guard: Guard | None = None) -> None:
        """Align the candidate to a rung and write a checkpoint there.

        Restores the highest checkpoint between the present rung and the given one first. If that
        is damaged, this is reported and the next lower one is used.

        Args:
            samples: number of alignment samples; whole batches, not below the present rung.
            progress: receives progress updates, and notes about damaged checkpoints.
            guard: claim under which the candidate is trained; None without a claim, and on other
                ranks.

        Raises:
            LeaseLostError: if the claim was lost; the other worker's checkpoint stays.
            StoreError: if the database cannot be asked whether the claim is held.
            ModelError: if the candidate cannot be assembled.
            DataError: if a sample cannot be trained on.
            TrainingError: if training fails; the last checkpoint stays.
            CheckpointError: if the checkpoint cannot be written.
            InputsChangedError: if data or a model changed during training.
        """
        start = perf_counter()
        run = self._run.address
        run_on_all = self._machine.processes.run_on_all
        with self._machine.clock.span("loading"):
            trainer = self._trainer or self._open(run)
            if self._samples < samples:
                self._catch_up(trainer, samples, progress)
        if self._samples == samples:
            return
        if samples < self._samples:
            raise TrainingError(
                self._samples,
                f"got a rung of {samples} samples; it must not lie below the present one",
            )
        with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
            trunk, scored = self._train_and_settle(trainer, samples, progress, guard)
        skipped = trainer.findings.note()
        if skipped:
            progress.note(f"{self._encoder.name} + {self._llm.name}: {skipped}")
        self._trunk = trunk if scored is not None else None
        self._samples = samples
        spent = (perf_counter() - start) * self._accelerator.num_processes
        self._train_seconds += spent
        self._spent_seconds += spent
        weights = trunk.weights if scored is None else scored
        with self._machine.clock.span("saving"):
            run_on_all(lambda: self._save(trunk, weights, guard))

    def rungs(self) -> list[int]:
        """Samples of all checkpoints of this candidate, ascending; loads nothing."""
        return self._run.rungs()

    def find_checkpoint(self, samples: int) -> CheckpointInfo | None:
        """Read the manifest of a rung's checkpoint; loads no weights.

        Args:
            samples: number of alignment samples at the rung.

        Returns:
            The checkpoint; None if there is none, or its manifest is damaged.

        Raises:
            CheckpointError: if an outage keeps the manifest from being read.
        """
        if samples not in self._run.rungs():
            return None
        try:
            manifest = self._run.manifest(samples)
        except CheckpointError as error:
            if is_outage(error):
                raise
            return None  # damaged: `advance` reports it and restores the next lower rung
        return _info(self._run.address_of(samples), manifest)

    def restore(self, progress: Progress) -> None:
        """Load the highest checkpoint without training, whichever study has written it.

        If it is damaged, this is reported and the next lower one is used.

        Args:
            progress: receives notes about damaged checkpoints.

        Raises:
            ModelError: if the candidate cannot be assembled.
            CheckpointError: if there is no readable checkpoint.
        """
        run = self._run.address
        processes = self._machine.processes
        latest = processes.run_on_main(lambda: self._latest(len(self._data), progress))
        if latest is None:
            name = f"{self._encoder.name} + {self._llm.name}"
            reason = f"no whole checkpoint of {name} is there; train it first"
            raise CheckpointError(run, f"{reason}, as `mordal export --train` does")
        trainer = self._trainer or self._open(run)
        processes.run_on_all(lambda: self._restore(trainer, latest))

    def merge(self) -> None:
        """Merge LoRA into the LLM, as an export does; the candidate cannot be trained any more."""
        merge(self.vlm)

    def card(self, scores: Sequence[str]) -> ModelCard:
        """Facts for the model card of the candidate at its present rung.

        Args:
            scores: lines about the candidate's scores.
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
        """End the candidate's run in the trackers."""
        if self._machine.trackers:
            self._accelerator.end_training()

    def _train_and_settle(
        self, trainer: Trainer, samples: int, progress: Progress, guard: Guard | None
    ) -> tuple[TrunkState, Mapping[str, torch.Tensor] | None]:
        """Train to a rung and put the weights in place that are scored there.

        Returns:
            The state that training continues from, and the scored weights; None for the latter if
            they are those of the state.
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
        """Train to a rung; return the state that training continues from after it."""
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
        trunk: TrunkState,
        scored: Mapping[str, torch.Tensor],
        guard: Guard | None,
    ) -> None:
        if not self._machine.processes.is_main:
            return
        if self._check:
            self._check(self._samples)
        assert self._trainer
        findings = self._trainer.findings
        checkpoint = Checkpoint(
            samples=self._samples,
            trained=scored,
            trunk=trunk,
            train_seconds=self._train_seconds,
            versions={name: version(name) for name in LIBRARIES},
            candidate=f"{self._encoder.name} + {self._llm.name}",
            sources={"vision_encoder": self._encoder, "llm": self._llm},
            longest=findings.longest,
            skipped=findings.skipped,
        )
        manifest = self._run.save(checkpoint, guard)
        self._info = _info(self._run.address_of(self._samples), manifest)

    def _open(self, run: str) -> Trainer:
        machine, accelerator = self._machine, self._accelerator
        name = f"{self._encoder.name} + {self._llm.name}"
        vlm = assemble_on(
            accelerator,
            machine.device,
            machine.processes,
            name,
            lambda device: assemble(
                self._encoder,
                self._llm,
                lora=self._settings.lora,
                precision=self._settings.precision,
                seed=self._seed,
                device=device,
                attention=self._settings.attention,
            ),
        )
        trainer = machine.processes.run_on_all(lambda: self._new_trainer(vlm, run, name))
        self._vlm, self._trainer = vlm, trainer
        return trainer

    def _new_trainer(self, vlm: Vlm, run: str, name: str) -> Trainer:
        machine, accelerator = self._machine, self._accelerator
        with raised_as(lambda reason: ModelError(name, f"cannot be made ready ({reason})")):
            if machine.trackers:
                pair = f"{self._encoder.name} + {self._llm.name}"
                project, options = names_in(machine.trackers, machine.project, pair)
                accelerator.init_trackers(project, config={"run": run}, init_kwargs=options)
            return Trainer(
                vlm,
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
                lengths=machine.lengths,
                clock=machine.clock,
            )

    def _catch_up(self, trainer: Trainer, samples: int, progress: Progress) -> None:
        """Restore the highest checkpoint up to a rung; a study on another task may have one.

        Rank 0 alone reads it and hands it to the others, which might find another one: a network
        drive shows new files to other machines later.
        """
        processes = self._machine.processes
        latest = processes.run_on_main(lambda: self._latest(samples, progress))
        if latest:
            processes.run_on_all(lambda: self._restore(trainer, latest))

    def _restore(self, trainer: Trainer, latest: tuple[Manifest, Checkpoint]) -> None:
        manifest, checkpoint = latest
        trunk, self._trunk = checkpoint.trunk, None
        trainer.findings.resume(checkpoint.longest, checkpoint.skipped)
        with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
            trainer.restore(trunk)
            if trunk.samples != checkpoint.samples or trunk.average is not None:
                trainer.load_weights(checkpoint.trained, checkpoint.samples)
                self._trunk = trunk
        if self._machine.processes.is_main:
            self._info = _info(self._run.address_of(checkpoint.samples), manifest)
        self._samples = checkpoint.samples
        self._train_seconds = checkpoint.train_seconds

    def _latest(self, at_most: int, progress: Progress) -> tuple[Manifest, Checkpoint] | None:
        ahead = [r for r in self._run.rungs() if self._samples < r <= at_most]
        for rung in reversed(ahead):
            try:
                manifest = self._run.manifest(rung)
                return manifest, self._run.load(rung, manifest)
            except CheckpointError as error:
                if is_outage(error):
                    raise  # the checkpoint may be undamaged
                progress.note(f"{error}; going on from the rung below")
        return None

    @cached_property
    def _run(self) -> Run:
        """Computed once: loaded weights stay the same even if their files change."""
        models = [(source, load_config(source)) for source in (self._encoder, self._llm)]
        on_hub = not all(is_local(source) for source, _ in models)
        identities = [
            run_identity(
                *models,
                settings=self._settings,
                data_digest=self._data.digest,
                seed=self._seed,
                files=self._machine.files,
                older=older,
            )
            for older in ((False, True) if on_hub else (False,))
        ]
        return Run(self._checkpoints, identities, self._settings)


def _info(run: str, manifest: Manifest) -> CheckpointInfo:
    return CheckpointInfo(f"{run}:{manifest.parts['trained']}", manifest.facts["train_seconds"])
