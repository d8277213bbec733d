"""Alignment of one candidate through the rungs: assemble, restore, train, save."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.alignment.checkpoint import Checkpoint
from mordal_optuna.alignment.parallel import assemble_on, open_accelerator
from mordal_optuna.alignment.runs import open_run
from mordal_optuna.alignment.schedule import branch_to
from mordal_optuna.alignment.tracking import TrackedRun
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.errors import CheckpointError, LeaseLostError, ModelError, TrainingError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, merge
from mordal_optuna.processes.outages import raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.alignment.manifests import Manifest
    from mordal_optuna.alignment.runs import CheckpointInfo, Run
    from mordal_optuna.alignment.train import TrunkState
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.processes.guard import Guard
    from mordal_optuna.progress import Progress

LIBRARIES = ("torch", "transformers", "peft", "accelerate")


class AlignmentSession:
    """Aligns one candidate to growing numbers of samples, reusing its checkpoints.

    Nothing is loaded before the first `advance` or `restore`. Between calls the live candidate
    holds the weights that are scored: those of the trunk, their running average, or those at the
    end of a cool-down.

    Attributes:
        tracked: the candidate's run in the trackers.
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
        pair = f"{vision_encoder.name} + {llm.name}"
        self.tracked = TrackedRun(self._accelerator, machine, pair, lambda: self._run.address)
        self._vlm: Vlm | None = None
        self._trainer: Trainer | None = None
        # State that training continues from; None if it is that of the live weights.
        self._trunk: TrunkState | None = None
        self._info: CheckpointInfo | None = None
        self._samples = 0
        self._train_seconds = 0.0
        self._spent_seconds = 0.0
        # What was found up to the last rung, see `Checkpoint.checked` and `Checkpoint.skipped`.
        self._found = (0, 0)

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
        is damaged, this is reported and the next lower one is used. If this process is asked to
        end, it ends after the present step and leaves an unfinished rung.

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
            Preempted: if this process, or another one of the launch, was asked to end.
        """
        start = perf_counter()
        with self._machine.clock.span("loading"):
            trainer = self._trainer or self._open()
            if self._samples < samples:
                self._catch_up(trainer, samples, progress)
        if self._samples == samples:
            return
        if samples < self._samples:
            raise TrainingError(
                self._samples,
                f"got a rung of {samples} samples; it must not lie below the present one",
            )
        with self._machine.stop.deferred():
            self._train_to(trainer, samples, progress, guard, start)
        self._machine.stop.check()

    def _train_to(
        self,
        trainer: Trainer,
        samples: int,
        progress: Progress,
        guard: Guard | None,
        start: float,
    ) -> None:
        """Train to a rung and write its checkpoint."""
        with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
            trunk = self._train(trainer, samples, progress, guard)
            if trainer.samples < samples:
                self._leave(trunk, start, progress, guard)
            scored = self._settle(trainer, trunk, samples)
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
            self._machine.processes.run_on_all(lambda: self._save(trunk, weights, guard))
        self._found = (samples, trainer.findings.skipped)

    def _leave(
        self, trunk: TrunkState, start: float, progress: Progress, guard: Guard | None
    ) -> None:
        """Write an unfinished rung and end, on all ranks.

        Raises:
            Preempted: always.
        """
        checked, skipped = self._found
        costs = self._train_seconds + (perf_counter() - start) * self._accelerator.num_processes

        def save() -> None:
            if guard and guard.failure:  # another worker trains it
                return
            scored = trunk.weights if trunk.average is None else trunk.average
            made = self._checkpoint(trunk, scored, trunk.samples)
            made = replace(made, train_seconds=costs, skipped=skipped, checked=checked)
            with suppress(LeaseLostError):
                self._run.save_unfinished(made, guard)

        if trunk.samples > self._samples:
            try:
                self._machine.processes.run_on_main(save)
            except CheckpointError as error:
                progress.note(f"{error}; training will go on from the rung below")
        self._machine.stop.leave()

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
        return self._run.find(samples)

    def restore(self, progress: Progress) -> None:
        """Load the highest checkpoint without training, whichever study has written it.

        If it is damaged, this is reported and the next lower one is used.

        Args:
            progress: receives notes about damaged checkpoints.

        Raises:
            ModelError: if the candidate cannot be assembled.
            CheckpointError: if there is no readable checkpoint.
        """
        processes = self._machine.processes
        latest = processes.run_on_main(
            lambda: self._run.latest(self._samples, len(self._data), progress)
        )
        if latest is None:
            name = f"{self._encoder.name} + {self._llm.name}"
            reason = f"no whole checkpoint of {name} is there; train it first"
            raise CheckpointError(self._run.address, f"{reason}, as `mordal export --train` does")
        trainer = self._trainer or self._open()
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
        self.tracked.close()

    def _settle(
        self, trainer: Trainer, trunk: TrunkState, samples: int
    ) -> Mapping[str, torch.Tensor] | None:
        """Put the scored weights in place, and return them; None if they are the trunk's."""
        scored = trunk.average
        if scored is not None:
            trainer.load_weights(scored, samples)
        elif trunk.samples != samples:
            scored = trainer.state().weights
        return scored

    def _train(
        self, trainer: Trainer, samples: int, progress: Progress, guard: Guard | None
    ) -> TrunkState:
        """Train to a rung, or as far as `StopRequest` allows.

        Returns:
            The state that training continues from afterwards.
        """
        if self._trunk:
            trainer.restore(self._trunk)
        branch = branch_to(self._settings, samples)
        title = f"align {self._encoder.name} + {self._llm.name} to {samples}"
        with progress.track(title, samples - trainer.samples) as advance:
            if branch is None:
                trainer.run(samples, advance, None, guard)
                return trainer.state()
            trainer.run(max(branch.start, trainer.samples), advance, None, guard)
            trunk = trainer.state()
            if trainer.samples >= branch.start:
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
        checkpoint = self._checkpoint(trunk, scored, self._samples)
        manifest = self._run.save(checkpoint, guard)
        self._info = self._run.info(self._samples, manifest)

    def _checkpoint(
        self, trunk: TrunkState, scored: Mapping[str, torch.Tensor], samples: int
    ) -> Checkpoint:
        assert self._trainer
        findings = self._trainer.findings
        return Checkpoint(
            samples=samples,
            trained=scored,
            trunk=trunk,
            train_seconds=self._train_seconds,
            versions={name: version(name) for name in LIBRARIES},
            candidate=f"{self._encoder.name} + {self._llm.name}",
            sources={"vision_encoder": self._encoder, "llm": self._llm},
            longest=findings.longest,
            skipped=findings.skipped,
        )

    def _open(self) -> Trainer:
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
        trainer = machine.processes.run_on_all(lambda: self._new_trainer(vlm, name))
        self._vlm, self._trainer = vlm, trainer
        return trainer

    def _new_trainer(self, vlm: Vlm, name: str) -> Trainer:
        machine, accelerator = self._machine, self._accelerator
        with raised_as(lambda reason: ModelError(name, f"cannot be made ready ({reason})")):
            self.tracked.open()
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
                stop=machine.stop,
            )

    def _catch_up(self, trainer: Trainer, samples: int, progress: Progress) -> None:
        """Restore the highest checkpoint up to a rung; a study on another task may have one.

        Rank 0 alone reads it and hands it to the others, which might find another one: a network
        drive shows new files to other machines later.
        """
        processes = self._machine.processes
        latest = processes.run_on_main(
            lambda: self._run.latest(self._samples, samples, progress, unfinished=True)
        )
        if latest:
            processes.run_on_all(lambda: self._restore(trainer, latest))

    def _restore(self, trainer: Trainer, latest: tuple[Manifest | None, Checkpoint]) -> None:
        manifest, checkpoint = latest
        trunk, self._trunk = checkpoint.trunk, None
        trainer.findings.resume(checkpoint.longest, checkpoint.skipped)
        with raised_as(lambda reason: TrainingError(trainer.samples, reason)):
            trainer.restore(trunk)
            if trunk.samples != checkpoint.samples or trunk.average is not None:
                trainer.load_weights(checkpoint.trained, checkpoint.samples)
                self._trunk = trunk
        checked = checkpoint.samples if checkpoint.checked is None else checkpoint.checked
        self._found = (checked, checkpoint.skipped)
        trainer.checked = min(trainer.checked, checked)
        self._info = None
        if self._machine.processes.is_main and manifest:
            self._info = self._run.info(checkpoint.samples, manifest)
        self._samples = checkpoint.samples
        self._train_seconds = checkpoint.train_seconds

    @cached_property
    def _run(self) -> Run:
        """Computed once: loaded weights stay the same even if their files change."""
        return open_run(
            self._checkpoints,
            self._encoder,
            self._llm,
            settings=self._settings,
            data_digest=self._data.digest,
            seed=self._seed,
            files=self._machine.files,
        )
