"""One candidate on its way through the rungs: assembled, restored, trained, saved."""

from __future__ import annotations

from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.alignment.assemble import assemble
from mordal_optuna.alignment.checkpoint import Checkpoint, run_address, run_identity
from mordal_optuna.alignment.loading import load_config
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.errors import CheckpointError, TrainingError

if TYPE_CHECKING:
    import torch

    from mordal_optuna.alignment.assemble import Vlm
    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress

_LIBRARIES = ("torch", "transformers", "peft", "accelerate")


class AlignmentSession:
    """Aligns one candidate to growing numbers of samples, reusing its checkpoints.

    Nothing is loaded before the first `advance`.
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
        device: torch.device,
    ) -> None:
        """Prepare a candidate.

        Args:
            vision_encoder: stays frozen.
            llm: gets LoRA.
            settings: the recipe.
            seed: of initial weights and dropout.
            data: the alignment set.
            checkpoints: where trained parts are kept and found.
            device: where to train.
        """
        self._encoder = vision_encoder
        self._llm = llm
        self._settings = settings
        self._seed = seed
        self._data = data
        self._checkpoints = checkpoints
        self._device = device
        self._vlm: Vlm | None = None
        self._trainer: Trainer | None = None
        self._train_seconds = 0.0

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
        """Samples trained on so far."""
        return self._trainer.samples if self._trainer else 0

    @property
    def train_seconds(self) -> float:
        """Device-seconds spent on this candidate from the start to its position, in all runs."""
        return self._train_seconds

    def advance(self, samples: int, progress: Progress) -> None:
        """Align to a rung and keep a checkpoint there.

        The first call restores the highest checkpoint that does not lie beyond the rung; a
        damaged one is reported and the one below it used.

        Args:
            samples: a whole number of batches, not below the present position.
            progress: is told of samples done, and of damaged checkpoints.

        Raises:
            ModelError: if the candidate cannot be assembled.
            DataError: if a sample cannot be trained on.
            TrainingError: if training fails; the last checkpoint stays.
            CheckpointError: if the checkpoint cannot be written.
        """
        start = perf_counter()
        identity = self._identity()
        trainer = self._trainer or self._open(run_address(identity), samples, progress)
        if trainer.samples == samples:
            return
        title = f"align {self._encoder.name} + {self._llm.name} to {samples}"
        with progress.track(title, samples - trainer.samples) as advance:
            trainer.run(samples, advance)
        self._train_seconds += perf_counter() - start
        self._checkpoints.save(
            run_address(identity),
            identity,
            Checkpoint(
                samples=samples,
                trained={n: p.detach().cpu() for n, p in self.vlm.trainable().items()},
                optimizer={n: t.cpu() for n, t in trainer.optimizer_state().items()},
                train_seconds=self._train_seconds,
                versions={name: version(name) for name in _LIBRARIES},
            ),
        )

    def _open(self, run: str, samples: int, progress: Progress) -> Trainer:
        self._vlm = assemble(
            self._encoder,
            self._llm,
            lora=self._settings.lora,
            precision=self._settings.precision,
            seed=self._seed,
            device=self._device,
        )
        self._trainer = Trainer(
            self._vlm,
            settings=self._settings,
            data=self._data,
            seed=self._seed,
            device=self._device,
        )
        found = self._latest(run, samples, progress)
        if found:
            self._trainer.restore(found.samples, found.trained, found.optimizer)
            self._train_seconds = found.train_seconds
        return self._trainer

    def _latest(self, run: str, at_most: int, progress: Progress) -> Checkpoint | None:
        for rung in reversed([r for r in self._checkpoints.rungs(run) if r <= at_most]):
            try:
                return self._checkpoints.load(run, rung)
            except CheckpointError as error:
                progress.note(f"{error}; going on from the rung below")
        return None

    def _identity(self) -> dict[str, object]:
        return run_identity(
            (self._encoder, load_config(self._encoder)),
            (self._llm, load_config(self._llm)),
            settings=self._settings,
            data_digest=self._data.digest,
            seed=self._seed,
        )


def warm_up(
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    settings: AlignmentSettings,
    seed: int,
    data: AlignmentSet,
    samples: int,
    device: torch.device,
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
        device: where to train.
        progress: is told of samples done.
    """
    vlm = assemble(
        vision_encoder, llm, lora=None, precision=settings.precision, seed=seed, device=device
    )
    batches = max(1, min(samples, len(data)) // settings.batch_size)
    short = settings.model_copy(
        update={"warmup_samples": min(settings.warmup_samples, settings.batch_size)}
    )
    trainer = Trainer(vlm, settings=short, data=data, seed=seed, device=device)
    until = batches * settings.batch_size
    with progress.track(f"warm up {vision_encoder.name} + {llm.name}", until) as advance:
        trainer.run(until, advance)
    return vlm
