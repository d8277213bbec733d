"""The loss of a micro-batch: cross entropy over the target tokens.

Symbols:
    n   target tokens of a micro-batch
    V   tokens of the vocabulary

Logits are computed for some target tokens at a time, together with the gradient of the loss with
respect to their hidden states, and are then forgotten. The head is frozen, so that is all of it
that the backward pass needs: no logits are kept, and none are computed twice. Otherwise n V
logits would be in memory four times (logits, their float32 copy, and the gradients of both): 12 V
bytes a token in bf16, 1.8 MB with a vocabulary of 152,000.

On a GPU the head's rows are padded to a multiple of 64, since products of odd sizes (32,001 tokens
with the image's) use slower kernels. The logits of the padding take no part in the loss.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import cross_entropy, linear, pad

from mordal_optuna.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mordal_optuna.alignment.batches import Batch
    from mordal_optuna.models.assemble import Vlm

# Most float32 logits in memory at once, in bytes: 441 tokens with a vocabulary of 152,000.
_LOGITS_BYTES = 1 << 28
# Sizes of a matrix product for which GPUs have their fastest kernels are multiples of this.
_ALIGNED = 64


class TargetLoss(torch.nn.Module):
    """Cross entropy summed over the target tokens of a micro-batch.

    The head is applied to target positions only: with a vocabulary of 150,000 tokens, the logits
    of prompts and images would take most of the memory.
    """

    def __init__(self, vlm: Vlm, *, precision: str, device: torch.device) -> None:
        """Compute the loss of a candidate.

        Args:
            vlm: the candidate.
            precision: `fp32` or `bf16`; with `bf16`, LoRA and projector are computed in bf16 too.
            device: torch device of the candidate.

        Raises:
            TrainingError: if the head is trained, whose gradients are not computed.
        """
        super().__init__()
        self.model = vlm.model
        self._autocast = precision == "bf16"
        self._device_type = device.type
        self._dropout = any(
            isinstance(module, torch.nn.Dropout) and module.p > 0 and ".lora_dropout." in name
            for name, module in vlm.model.named_modules()
        )
        head = vlm.model.lm_head
        if any(parameter.requires_grad for parameter in head.parameters()):
            raise TrainingError(0, "the LLM's head is to be trained; it must be frozen")
        self._chunk = max(1, _LOGITS_BYTES // (4 * head.weight.shape[0]))
        self._logits = aligned_head(head) if device.type == "cuda" else head

    def forward(self, batch: Batch) -> torch.Tensor:
        """Sum of cross entropies of one micro-batch, in nats.

        Args:
            batch: micro-batch on the model's device, with features of its images.
        """
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._autocast):
            hidden = self.model.model.language_model(
                inputs_embeds=self._embeddings(batch),
                position_ids=batch.get("position_ids"),
                use_cache=False,
            ).last_hidden_state
            aimed = hidden.flatten(0, 1)[batch["places"]]
            summed: torch.Tensor = _ChunkedCrossEntropy.apply(
                aimed, batch["targets"], self._logits, self._chunk
            )
            return summed

    @contextmanager
    def in_one_dtype(self) -> Iterator[None]:
        """Compute LoRA in bf16 from bf16 inputs, forwards and backwards.

        PEFT casts the input of each LoRA layer to float32, the dtype of its weights, and autocast
        casts it back to bf16: the same numbers, but with a copy for each layer that is kept for
        the backward pass. With dropout the casts stay: random numbers drawn for another dtype may
        be other ones, and those of a training must not change.

        Recomputed layers must be recomputed within it, so it is opened around both passes.
        """
        with disable_input_dtype_casting(self.model, active=self._autocast and not self._dropout):
            yield

    def _embeddings(self, batch: Batch) -> torch.Tensor:
        """Token embeddings, with projected features at image placeholders, as in LLaVA's class."""
        embedded = self.model.get_input_embeddings()(batch["input_ids"])
        if "features" not in batch:
            return embedded
        projected = self.model.model.multi_modal_projector(torch.cat(batch["features"]))
        # At places known beforehand: a mask's number of places would have to be waited for.
        return (
            embedded.flatten(0, 1)
            .index_copy(0, batch["image_places"], projected.flatten(0, 1).to(embedded.dtype))
            .view_as(embedded)
        )


def aligned_head(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """A frozen head that multiplies with a multiple of 64 rows, and gives its own logits.

    Args:
        head: frozen layer, on the device on which it is used; its later changes are not seen. It
            is used as it is if no row is missing, and copied otherwise.
    """
    rows = head.weight.shape[0]
    missing = -rows % _ALIGNED
    if not missing:
        return head
    weight = pad(head.weight.detach(), (0, 0, 0, missing))
    bias = None if head.bias is None else pad(head.bias.detach(), (0, missing))
    return lambda hidden: linear(hidden, weight, bias)[..., :rows]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross entropy behind a frozen head, some rows at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        hidden: torch.Tensor,
        targets: torch.Tensor,
        head: Callable[[torch.Tensor], torch.Tensor],
        rows: int,
    ) -> torch.Tensor:
        """Sum of cross entropies, float32.

        Args:
            ctx: torch's context.
            hidden: hidden states, tokens x width.
            targets: ids of the tokens that are to be predicted from them.
            head: frozen function that gives logits.
            rows: number of tokens whose logits are in memory at once.
        """
        wanted = ctx.needs_input_grad[0]
        total = torch.zeros((), device=hidden.device)
        gradients = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(hidden), rows):
            chunk = slice(start, start + rows)
            part = hidden[chunk].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                loss = cross_entropy(head(part).float(), targets[chunk], reduction="sum")
            total += loss.detach()
            if gradients is not None:
                (gradients[chunk],) = torch.autograd.grad(loss, part)
        ctx.save_for_backward(gradients)
        return total

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        summed: torch.Tensor,
    ) -> tuple[torch.Tensor, None, None, None]:
        """Gradient with respect to the hidden states."""
        (gradients,) = ctx.saved_tensors
        return gradients * summed.to(gradients.dtype), None, None, None
