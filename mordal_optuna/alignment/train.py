"""The training loop: AdamW on projector and LoRA, a fixed global batch, exact resumption.

Symbols:
    B   batch_size, samples of one optimiser step over all processes
    T   target tokens of the whole global batch
    lr  learning_rate * min(1, samples seen / warmup_samples), constant after the warm-up

The loss of a step is the sum of cross entropies over all target tokens divided by T, whatever the
number of processes and the size of micro-batches.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy

from mordal_optuna.alignment.data import IGNORED, Batch, Collator
from mordal_optuna.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.alignment.assemble import Vlm
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.progress import Advance


class Trainer:
    """Trains one candidate; its position is a number of samples in the fixed order."""

    def __init__(
        self,
        vlm: Vlm,
        *,
        settings: AlignmentSettings,
        data: AlignmentSet,
        seed: int,
        device: torch.device,
    ) -> None:
        """Start at sample 0.

        Args:
            vlm: the candidate; its trainable parameters are changed in place.
            settings: the recipe.
            data: the alignment set.
            seed: of dropout.
            device: where the candidate lives.
        """
        self.samples = 0
        self._vlm = vlm
        self._settings = settings
        self._data = data
        self._seed = seed
        self._device = device
        self._collate = Collator(vlm, max_length=settings.max_length)
        self._parameters = vlm.trainable()
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=0.0, weight_decay=settings.weight_decay
        )
        self._accelerator = Accelerator(cpu=device.type == "cpu")
        self._check_processes()
        self._loss = self._accelerator.prepare(_SummedLoss(vlm))

    def run(self, until: int, advance: Advance) -> None:
        """Train up to a number of samples.

        Args:
            until: a whole number of batches, at most the size of the alignment set.
            advance: is told of samples done.

        Raises:
            TrainingError: if the loss is not finite, or `until` cannot be reached exactly.
            DataError: if a sample cannot be trained on.
        """
        batch_size = self._settings.batch_size
        if until % batch_size or not self.samples <= until <= len(self._data):
            raise TrainingError(
                self.samples,
                f"asked for {until} samples; whole batches of {batch_size} from {self.samples} to "
                f"{len(self._data)} can be reached",
            )
        self._vlm.model.train()
        self._vlm.model.model.vision_tower.eval()
        while self.samples < until:
            self._step()
            self.samples += batch_size
            advance(batch_size)

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """State tensors by parameter name and state name, joined by `/`."""
        return {
            f"{name}/{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state[parameter].items()
        }

    def restore(
        self,
        samples: int,
        trained: Mapping[str, torch.Tensor],
        optimizer: Mapping[str, torch.Tensor],
    ) -> None:
        """Go to the position of a checkpoint.

        Raises:
            TrainingError: if it holds other parameters than this candidate.
        """
        if trained.keys() != self._parameters.keys():
            odd = sorted(trained.keys() ^ self._parameters.keys())
            raise TrainingError(
                samples,
                f"the checkpoint and the candidate differ in {len(odd)} parameters: {odd[0]}",
            )
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(trained[name])
        self._optimizer.state.clear()
        for key, value in optimizer.items():
            name, state = key.rsplit("/", 1)
            place = torch.device("cpu") if state == "step" else self._device
            self._optimizer.state[self._parameters[name]][state] = value.to(place)
        self.samples = samples

    def _step(self) -> None:
        self._set_rate()
        batches = self._micro_batches()
        targets = torch.tensor(
            float(sum(int((b["labels"][:, 1:] != IGNORED).sum()) for b in batches)),
            device=self._device,
        )
        total = float(self._accelerator.reduce(targets, reduction="sum"))
        # DDP averages gradients over processes; each one's share is scaled back up.
        scale = self._accelerator.num_processes / total
        loss = 0.0
        with torch.random.fork_rng(devices=self._generators()):
            # Dropout depends on seed, position and process alone, so resuming changes nothing.
            torch.manual_seed(hash((self._seed, self.samples, self._accelerator.process_index)))
            for number, batch in enumerate(batches):
                last = number == len(batches) - 1
                with nullcontext() if last else self._accelerator.no_sync(self._loss):
                    summed = self._loss(_moved(batch, self._device))
                    self._accelerator.backward(summed * scale)
                loss += float(summed.detach())
        self._check_loss(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_gradient_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _micro_batches(self) -> list[Batch]:
        """This process's share of the next global batch, alike lengths together.

        Sorting inside a global batch changes what is padded, not what is learned: the loss is a
        sum over all its target tokens.
        """
        rank, world = self._accelerator.process_index, self._accelerator.num_processes
        share = range(self.samples + rank, self.samples + self._settings.batch_size, world)
        encoded = [self._collate.encode(self._data.sample(index)) for index in share]
        encoded.sort(key=lambda sample: len(sample.ids))
        size = self._settings.micro_batch_size
        return [
            self._collate(encoded[start : start + size]) for start in range(0, len(encoded), size)
        ]

    def _set_rate(self) -> None:
        seen = self.samples + self._settings.batch_size
        warm = min(1.0, seen / max(1, self._settings.warmup_samples))
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * warm

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                self.samples,
                f"the loss is {loss}; a lower learning_rate than "
                f"{self._settings.learning_rate} or fp32 may help",
            )

    def _check_processes(self) -> None:
        world = self._accelerator.num_processes
        if self._settings.batch_size % world:
            raise TrainingError(
                0,
                f"a global batch of {self._settings.batch_size} cannot be shared by {world} "
                "processes evenly; batch_size must be a multiple of their number",
            )

    def _generators(self) -> list[torch.device]:
        return [] if self._device.type == "cpu" else [self._device]


def _moved(batch: Batch, device: torch.device) -> Batch:
    moved = Batch(
        input_ids=batch["input_ids"].to(device),
        attention_mask=batch["attention_mask"].to(device),
        labels=batch["labels"].to(device),
    )
    if "pixel_values" in batch:
        moved["pixel_values"] = batch["pixel_values"].to(device)
    return moved


class _SummedLoss(torch.nn.Module):
    """Cross entropy summed over the target tokens of a micro-batch.

    The head runs on target positions alone: with a vocabulary of 150,000, logits of prompts and
    images would take most of the memory.
    """

    def __init__(self, vlm: Vlm) -> None:
        super().__init__()
        self.model = vlm.model

    def forward(self, batch: Batch) -> torch.Tensor:
        labels = batch["labels"][:, 1:]
        hidden = self.model.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            pixel_values=self._pixels(batch),
            use_cache=False,
        ).last_hidden_state[:, :-1]
        wanted = labels != IGNORED
        logits = self.model.lm_head(hidden[wanted])
        return cross_entropy(logits.float(), labels[wanted], reduction="sum")

    def _pixels(self, batch: Batch) -> torch.Tensor | None:
        pixels = batch.get("pixel_values")
        return None if pixels is None else pixels.to(self.model.model.vision_tower.dtype)
