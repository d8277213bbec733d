"""What each supported architecture needs to know to become part of a LLaVA-style model.

A family is found by the model's own `config.model_type`, never by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import transformers

from mordal_optuna.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class VisionFamily:
    """A family of vision encoders.

    Attributes:
        model_types: values of `config.model_type`, of the full checkpoint and of the tower alone.
        tower: transformers class that loads the tower out of either.
        select_strategy: LLaVA's name for what is kept of the tokens: `default` drops the first
            one (CLS), `full` keeps all.
        additional_tokens: tokens beside the patches (CLS).
        feature_layer: hidden state that is fed to the projector; LLaVA takes the last but one.
    """

    model_types: tuple[str, ...]
    tower: str
    select_strategy: Literal["default", "full"]
    additional_tokens: int
    feature_layer: int = -2

    def tower_class(self) -> type[PreTrainedModel]:
        """The transformers class that loads the tower."""
        found: type[PreTrainedModel] = getattr(transformers, self.tower)
        return found


@dataclass(frozen=True)
class LlmFamily:
    """A family of LLMs.

    Attributes:
        model_types: values of `config.model_type`.
        lora_targets: names of the linear layers that get LoRA: attention and MLP, not the head.
    """

    model_types: tuple[str, ...]
    lora_targets: tuple[str, ...]


VISION_FAMILIES = (
    VisionFamily(("clip", "clip_vision_model"), "CLIPVisionModel", "default", 1),
    VisionFamily(("siglip", "siglip_vision_model"), "SiglipVisionModel", "full", 0),
    VisionFamily(("dinov2",), "Dinov2Model", "default", 1),
)

LLM_FAMILIES = (
    LlmFamily(
        ("llama", "mistral", "qwen2"),
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
)


def vision_family(name: str, config: PretrainedConfig) -> VisionFamily:
    """The family of a vision encoder.

    Raises:
        ModelError: if its architecture is not supported.
    """
    for family in VISION_FAMILIES:
        if config.model_type in family.model_types:
            return family
    raise ModelError(name, _unsupported("vision encoder", config.model_type, VISION_FAMILIES))


def llm_family(name: str, config: PretrainedConfig) -> LlmFamily:
    """The family of an LLM.

    Raises:
        ModelError: if its architecture is not supported.
    """
    for family in LLM_FAMILIES:
        if config.model_type in family.model_types:
            return family
    raise ModelError(name, _unsupported("LLM", config.model_type, LLM_FAMILIES))


def _unsupported(
    kind: str, model_type: str, families: tuple[VisionFamily, ...] | tuple[LlmFamily, ...]
) -> str:
    supported = sorted(name for family in families for name in family.model_types)
    return (
        f"architecture {model_type!r} is not supported as a {kind}; "
        f"supported are {', '.join(supported)}"
    )
