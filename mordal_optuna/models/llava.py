"""LLaVA with what its own class drops: register tokens, feature maps, caps and scales of logits.

This file imports torch and transformers alone: an export that needs it carries a copy, and loads
with `trust_remote_code=True` where this package is not installed.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration


class PatchLlavaConfig(LlavaConfig):
    """LLaVA's configuration, and what an encoder and an LLM need beyond it.

    Attributes:
        register_tokens: tokens after the first one that are no patches; dropped.
        feature_map: whether hidden states are images x channels x height x width.
        logit_softcap: c where logits l become c tanh(l / c); 0 leaves them.
        logit_divisor: what logits are divided by.
    """

    model_type = "patch_llava"

    register_tokens: int = 0
    feature_map: bool = False
    logit_softcap: float = 0.0
    logit_divisor: float = 1.0


class PatchLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA for the encoders and LLMs that need more than LLaVA's own class."""

    config_class = PatchLlavaConfig

    def __init__(self, config: PatchLlavaConfig) -> None:
        super().__init__(config)
        give_patches(
            self.model.vision_tower,
            layer=config.vision_feature_layer,
            registers=config.register_tokens,
            feature_map=config.feature_map,
        )
        keep_head(self.lm_head, softcap=config.logit_softcap, divisor=config.logit_divisor)


def give_patches(tower: torch.nn.Module, *, layer: int, registers: int, feature_map: bool) -> None:
    """Make the layer that is fed on hold patches, with at most one token (CLS) before them.

    LLaVA can drop one leading token and no registers, and knows no feature maps.

    Args:
        tower: gives hidden states on request.
        layer: the one that is fed on.
        registers: tokens after the first one that are no patches.
        feature_map: whether hidden states are images x channels x height x width.
    """

    def patches(module: torch.nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001
        hidden = list(output.hidden_states or ())
        if hidden:
            kept = hidden[layer]
            if feature_map:
                kept = kept.flatten(2).transpose(1, 2)
            else:
                kept = torch.cat([kept[:, :1], kept[:, 1 + registers :]], dim=1)
            hidden[layer] = kept
            output["hidden_states"] = tuple(hidden)
        return output

    if registers or feature_map:
        tower.register_forward_hook(patches)


def keep_head(head: torch.nn.Module, *, softcap: float, divisor: float) -> None:
    """What an LLM does to its logits after the head, which LLaVA's own class drops silently.

    Args:
        head: the linear layer that gives logits.
        softcap: c where logits l become c tanh(l / c); 0 leaves them.
        divisor: what logits are divided by.
    """

    def changed(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        if divisor != 1.0:
            output = output / divisor
        return torch.tanh(output / softcap) * softcap if softcap else output

    if softcap or divisor != 1.0:
        head.register_forward_hook(changed)
