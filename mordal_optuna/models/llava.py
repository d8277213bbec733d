"""LLaVA with support for register tokens, feature maps, and caps and divisors of logits.

This file imports only torch and transformers. An export that needs it contains a copy of it, and
loads with `trust_remote_code=True` where this package is not installed.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration


class PatchLlavaConfig(LlavaConfig):
    """LLaVA's configuration, with further fields for encoders and LLMs.

    Attributes:
        register_tokens: number of tokens after the first one that are dropped.
        feature_map: whether hidden states are images x channels x height x width.
        logit_softcap: c, where logits l become c tanh(l / c); 0 leaves them unchanged.
        logit_divisor: number that logits are divided by.
    """

    model_type = "patch_llava"

    register_tokens: int = 0
    feature_map: bool = False
    logit_softcap: float = 0.0
    logit_divisor: float = 1.0


class PatchLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA for encoders and LLMs that LLaVA's own class does not support."""

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
    """Reduce the layer that is fed to the projector to patches, after at most one CLS token.

    LLaVA can drop one leading token, but no registers, and does not support feature maps.

    Args:
        tower: vision tower that returns hidden states on request.
        layer: index of the hidden state that is fed to the projector.
        registers: number of register tokens after the first token.
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
    """Apply an LLM's cap and divisor to its logits, which LLaVA's own class silently ignores.

    Args:
        head: linear layer that gives logits.
        softcap: c, where logits l become c tanh(l / c); 0 leaves them unchanged.
        divisor: number that logits are divided by.
    """

    def changed(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        if divisor != 1.0:
            output = output / divisor
        return torch.tanh(output / softcap) * softcap if softcap else output

    if softcap or divisor != 1.0:
        head.register_forward_hook(changed)
