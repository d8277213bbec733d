"""Gradients of one rank's share of a global batch, micro-batch by micro-batch.

Losses are sums over target tokens, so the gradients do not depend on how a share is split, except
for rounding. Dropout is seeded for each share, by the random seed, the position and the rank.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from mordal_optuna.alignment.batches import micro_batches, samples_of
from mordal_optuna.alignment.lora import fused_lora
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.alignment.memory import TokenBudget
from mordal_optuna.alignment.timing import Clock
from mordal_optuna.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from transformers import PreTrainedModel

    from mordal_optuna.alignment.batches import Batch, Share
    from mordal_optuna.alignment.conversation import Conversations
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm


class ShareGradients:
    """Computes gradients of a candidate, in place, within the device's memory."""

    def __init__(
        self,
        vlm: Vlm,
        conversations: Conversations,
        *,
        settings: AlignmentSettings,
        seed: int,
        rank: int,
        device: torch.device,
        sharded: bool,
        clock: Clock | None = None,
    ) -> None:
        """Compute gradients of a candidate's projector and LoRA.

        Args:
            vlm: the candidate.
            conversations: its tokeniser of samples.
            settings: alignment recipe.
            seed: random seed of dropout.
            rank: number of this process, from 0.
            device: torch device of the candidate.
            sharded: whether other ranks wait for this one in each layer, so that it cannot repeat
                a share alone.
            clock: counts the tokens that are computed; None if nobody reads it.
        """
        self._llm = vlm.model.model.language_model
        self._parameters = list(vlm.trainable().values())
        self._conversations = conversations
        self._seed = seed
        self._rank = rank
        self._device = device
        self._sharded = sharded
        self._clock = clock or Clock(device)
        self._pad_id = vlm.processor.tokenizer.pad_token_id
        self._batching = settings.batching if vlm.llm_family.packs else "grouped"
        self._budget = TokenBudget(settings.most_samples, settings.micro_batch_tokens)
        # Sharded ranks would have to begin at the same layer.
        self._may_recompute = settings.gradient_checkpointing == "auto" and not sharded
        if settings.gradient_checkpointing is True:
            self._recompute()
        self._forwards = compiled_layers(self._llm) if settings.compile else fused_lora(self._llm)
        self._loss = TargetLoss(vlm, precision=settings.precision, device=device)

    def compute(
        self, share: Share, features: Sequence[torch.Tensor], position: int
    ) -> tuple[torch.Tensor, bool]:
        """Compute the gradients of a share's summed loss, in place of earlier gradients.

        Args:
            share: this rank's part of a global batch.
            features: features of each sample's images, images x patches x width.
            position: number of samples trained on before.

        Returns:
            The summed loss, and whether memory sufficed; if not, the next try makes smaller
            micro-batches.

        Raises:
            TrainingError: if memory runs out at a single sample, or cannot be tried again.
        """
        for parameter in self._parameters:
            parameter.grad = None
        total = torch.zeros((), device=self._device)
        devices = [] if self._device.type == "cpu" else [self._device]
        with (
            torch.random.fork_rng(devices=devices),
            self._loss.in_one_dtype(),
            replaced(self._forwards),
        ):
            torch.manual_seed(self._step_seed(position))
            for batch in micro_batches(
                share,
                features,
                self._conversations,
                budget=self._budget,
                batching=self._batching,
                pad_id=self._pad_id,
            ):
                try:
                    total += self._summed(self._clock.computed(batch))
                    continue
                except torch.OutOfMemoryError as error:
                    self._shrink(batch, position, error)
                # Outside the handler, whose error holds the activations in memory.
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                return torch.zeros((), device=self._device), False
        return total, True

    def fitted(self) -> None:
        """Note that all ranks have computed a step's gradients."""
        self._budget.fitted()

    def _summed(self, batch: Batch) -> torch.Tensor:
        summed = self._loss(_moved(batch, self._device))
        # Not Accelerate's, which divides by the gradient accumulation of its configuration and
        # scales for fp16: this loop accumulates, and never scales.
        summed.backward()
        return summed.detach()

    def _recompute(self) -> None:
        """Compute activations again in the backward pass from now on, instead of keeping them."""
        self._llm.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )

    def _shrink(self, batch: Batch, position: int, error: Exception) -> None:
        samples = samples_of(batch)
        rows, length = batch["input_ids"].shape
        if samples == 1 and self._may_recompute:
            self._may_recompute = False
            self._recompute()
            return
        advice = None
        if self._sharded:
            advice = "use a smaller micro_batch_size or micro_batch_tokens"
        elif samples == 1:
            advice = (
                "gradient_checkpointing, where it is off, a shorter max_length, bf16 or FSDP may "
                "help"
            )
        if advice:
            raise TrainingError(
                position,
                f"{self._device} ran out of memory at {samples} samples of {rows * length} tokens "
                f"a forward pass; {advice}",
            ) from error
        self._budget.failed(rows, length)

    def _step_seed(self, position: int) -> int:
        entropy = [self._seed, position, self._rank]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def replaced(forwards: Mapping[torch.nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let layers run other forward passes within the context, such as compiled ones.

    Args:
        forwards: forward passes by layer.
    """
    for layer, forward in forwards.items():
        layer.forward = forward
    try:
        yield
    finally:
        for layer in forwards:
            del layer.forward


def compiled_layers(llm: PreTrainedModel) -> dict[torch.nn.Module, Callable[..., Any]]:
    """Forward passes of an LLM's layers, which torch compiles at their first use.

    Layers share their code, so that one compilation serves all. Lengths are symbols in it.

    Args:
        llm: the LLM.
    """
    layers = [layer for layer in llm.modules() if isinstance(layer, GradientCheckpointingLayer)]
    return {layer: torch.compile(layer.forward, dynamic=True) for layer in layers}


def _moved(batch: Batch, device: torch.device) -> Batch:
    moved: Batch = {  # type: ignore[assignment]
        # Features are on the device already.
        key: value if key == "features" else value.to(device, non_blocking=True)  # type: ignore[attr-defined]
        for key, value in batch.items()
    }
    return moved
