"""The loss of a micro-batch: cross entropy over the target tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from mordal_optuna.alignment.batches import Batch
    from mordal_optuna.models.assemble import Vlm


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
        """
        super().__init__()
        self.model = vlm.model
        self._image_id = vlm.model.config.image_token_index
        self._autocast = precision == "bf16"
        self._device_type = device.type

    def forward(self, batch: Batch) -> torch.Tensor:
        """Sum of cross entropies of one micro-batch, in nats.

        Args:
            batch: micro-batch on the model's device, with features of its images.
        """
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._autocast):
            hidden = self.model.model.language_model(
                inputs_embeds=self._embeddings(batch),
                attention_mask=batch.get("attention_mask"),
                position_ids=batch.get("position_ids"),
                use_cache=False,
            ).last_hidden_state
            logits = self.model.lm_head(hidden.flatten(0, 1)[batch["places"]])
            return cross_entropy(logits.float(), batch["targets"], reduction="sum")

    def _embeddings(self, batch: Batch) -> torch.Tensor:
        """Token embeddings, with projected features at image placeholders, as in LLaVA's class."""
        embedded = self.model.get_input_embeddings()(batch["input_ids"])
        if "features" not in batch:
            return embedded
        projected = self.model.model.multi_modal_projector(batch["features"]).to(embedded.dtype)
        places = (batch["input_ids"] == self._image_id).unsqueeze(-1)
        return embedded.masked_scatter(places, projected)
