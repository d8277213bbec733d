"""Floating-point operations of a candidate's training, counted by its parameters; loads no torch.

Symbols:
    F   parameters of the LLM's frozen matrices, embeddings and head left out
    L   parameters of LoRA
    H   parameters of the head, P those of the projector
    t   tokens of samples, without padding; y target tokens; v tokens of images

A step computes 4 F t + 6 L t + 4 H y + 6 P v floating-point operations: 2 a parameter and token in
the forward pass, as many for the gradients of activations, and as many again for those of trained
weights (Kaplan et al. 2020, section 2.1). Attention scores, the encoder and what checkpointing
computes again are not counted, so the share of the peak is too low rather than too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mordal_optuna.models.assemble import Vlm


@dataclass(frozen=True)
class Work:
    """Parameters that a candidate's operations are counted by; see the symbols above.

    Attributes:
        frozen: F.
        lora: L.
        head: H.
        projector: P.
        image_tokens: tokens of one image.
    """

    frozen: int
    lora: int
    head: int
    projector: int
    image_tokens: int

    @classmethod
    def per_token(cls, vlm: Vlm) -> Work:
        """Count a candidate's parameters.

        Args:
            vlm: the candidate.
        """
        model = vlm.model.model
        llm = dict(model.language_model.named_parameters())
        embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
        frozen = sum(
            p.numel()
            for name, p in llm.items()
            if "lora_" not in name and p.dim() > 1 and id(p) not in embeddings
        )
        return cls(
            frozen,
            sum(p.numel() for name, p in llm.items() if "lora_" in name),
            vlm.model.lm_head.weight.numel(),
            sum(p.numel() for p in model.multi_modal_projector.parameters()),
            vlm.image_tokens,
        )

    def of(self, tokens: float, targets: float, images: float) -> float:
        """Floating-point operations of forward and backward passes.

        Args:
            tokens: t.
            targets: y.
            images: number of images.
        """
        seen = images * self.image_tokens
        return float(
            (4 * self.frozen + 6 * self.lora) * tokens
            + 4 * self.head * targets
            + 6 * self.projector * seen
        )
