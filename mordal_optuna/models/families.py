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
        class_token: whether the first token is no patch (CLS); it is dropped.
        registers: name of the configuration's number of register tokens, which follow the first
            token and are dropped as well; None where a family has none.
        feature_map: hidden states are maps, images x channels x height x width, and not tokens.
        feature_layer: hidden state that is fed to the projector; LLaVA takes the last but one.
        key_mapping: renames weights of a full checkpoint to those of the tower.
        architectures: beginnings of `config.architecture`, for timm's models, which all have the
            same model type; empty for all others.
    """

    model_types: tuple[str, ...]
    tower: str
    class_token: bool
    registers: str | None = None
    feature_map: bool = False
    feature_layer: int = -2
    key_mapping: tuple[tuple[str, str], ...] = ()
    architectures: tuple[str, ...] = ()

    def describes(self, config: PretrainedConfig) -> bool:
        """Whether a model of this configuration belongs to the family."""
        if config.model_type not in self.model_types:
            return False
        architecture = getattr(config, "architecture", "")
        return not self.architectures or architecture.startswith(self.architectures)

    @property
    def select_strategy(self) -> Literal["default", "full"]:
        """LLaVA's name for what is kept of the tokens: `default` drops the first one."""
        return "default" if self.class_token else "full"

    def tower_class(self) -> type[PreTrainedModel]:
        """The transformers class that loads the tower."""
        found: type[PreTrainedModel] = getattr(transformers, self.tower)
        return found

    def register_tokens(self, config: PretrainedConfig) -> int:
        """How many register tokens this model has."""
        return int(getattr(config, self.registers)) if self.registers else 0

    def patch_size(self, tower: PreTrainedModel) -> int:
        """Pixels on a side of what one feature stands for."""
        if self.architectures:
            return int(tower.timm_model.feature_info[self.feature_layer]["reduction"])
        if self.feature_map:  # a stem of stride 4, and stages that halve the map but the first
            return 4 * 2 ** (len(tower.config.hidden_sizes) - 1)
        size = tower.config.patch_size
        return int(size[0] if isinstance(size, list | tuple) else size)

    def width(self, tower: PreTrainedModel) -> int:
        """Channels of the layer that is fed on."""
        if self.architectures:
            return int(tower.timm_model.feature_info[self.feature_layer]["num_chs"])
        if self.feature_map:
            return int(tower.config.hidden_sizes[-1])
        return int(tower.config.hidden_size)


@dataclass(frozen=True)
class LlmFamily:
    """A family of LLMs.

    Attributes:
        model_types: values of `config.model_type`.
        lora_targets: names of the linear layers that get LoRA: attention and MLP, not the head.
        softcap: name of the configuration's c where logits l are c tanh(l / c); LLaVA's own head
            drops it.
        divide_logits: name of the configuration's divisor of logits; LLaVA's own head drops it.
        packs: whether it keeps samples apart that are joined to one row, by their positions.
        layers: where its layers are, from the model without its head.
    """

    model_types: tuple[str, ...]
    lora_targets: tuple[str, ...]
    softcap: str | None = None
    divide_logits: str | None = None
    packs: bool = True
    layers: str = "layers"


VISION_FAMILIES = (
    VisionFamily(("clip", "clip_vision_model"), "CLIPVisionModel", class_token=True),
    # SigLIP 2 of fixed resolution is a SigLIP model to transformers.
    VisionFamily(("siglip", "siglip_vision_model"), "SiglipVisionModel", class_token=False),
    VisionFamily(("vit",), "ViTModel", class_token=True),
    VisionFamily(("dinov2",), "Dinov2Model", class_token=True),
    VisionFamily(
        ("dinov2_with_registers",),
        "Dinov2WithRegistersModel",
        class_token=True,
        registers="num_register_tokens",
    ),
    VisionFamily(
        ("dinov3_vit",), "DINOv3ViTModel", class_token=True, registers="num_register_tokens"
    ),
    VisionFamily(("aimv2", "aimv2_vision_model"), "Aimv2VisionModel", class_token=False),
    VisionFamily(
        ("internvl", "internvl_vision"),
        "InternVLVisionModel",
        class_token=True,
        key_mapping=((r"^(model\.)?vision_tower\.", ""),),
    ),
    # CLIP-trained or not: the last map, since the one before has another width.
    VisionFamily(
        ("convnext",), "ConvNextModel", class_token=False, feature_map=True, feature_layer=-1
    ),
    # timm gives maps without CLS for its ViTs as well; EVA-CLIP is EVA-02 trained as CLIP.
    VisionFamily(
        ("timm_wrapper",),
        "TimmWrapperModel",
        class_token=False,
        feature_map=True,
        architectures=("eva02_", "eva_", "vit_"),
    ),
    VisionFamily(
        ("timm_wrapper",),
        "TimmWrapperModel",
        class_token=False,
        feature_map=True,
        feature_layer=-1,
        architectures=("convnext",),
    ),
)

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = (*_ATTENTION, "gate_proj", "up_proj", "down_proj")

LLM_FAMILIES = (
    LlmFamily(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2", "smollm3"), _GATED
    ),
    LlmFamily(("gemma2",), _GATED, softcap="final_logit_softcapping"),
    LlmFamily(("granite",), _GATED, divide_logits="logits_scaling"),
    LlmFamily(("phi3",), ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    LlmFamily(("gpt_neox",), ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")),
    LlmFamily(
        ("opt",),
        ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
        packs=False,
        layers="decoder.layers",
    ),
)


def vision_family(name: str, config: PretrainedConfig) -> VisionFamily:
    """The family of a vision encoder.

    Raises:
        ModelError: if its architecture is not supported.
    """
    for family in VISION_FAMILIES:
        if family.describes(config):
            return family
    kind = getattr(config, "architecture", config.model_type)
    raise ModelError(name, _unsupported("vision encoder", kind, VISION_FAMILIES))


def llm_family(name: str, config: PretrainedConfig) -> LlmFamily:
    """The family of an LLM.

    Raises:
        ModelError: if its architecture is not supported.
    """
    for family in LLM_FAMILIES:
        if config.model_type in family.model_types:
            _check_widths(name, config)
            return family
    raise ModelError(name, _unsupported("LLM", config.model_type, LLM_FAMILIES))


def _check_widths(name: str, config: PretrainedConfig) -> None:
    embeddings = getattr(config, "word_embed_proj_dim", config.hidden_size)
    if embeddings != config.hidden_size:
        raise ModelError(
            name,
            f"has embeddings of width {embeddings} and hidden states of width "
            f"{config.hidden_size}; a projector needs the two to be equal",
        )


def _unsupported(
    kind: str, model_type: str, families: tuple[VisionFamily, ...] | tuple[LlmFamily, ...]
) -> str:
    supported = sorted({name for family in families for name in _names(family)})
    return (
        f"architecture {model_type!r} is not supported as a {kind}; "
        f"supported are {', '.join(supported)}"
    )


def _names(family: VisionFamily | LlmFamily) -> tuple[str, ...]:
    """Model types, or for timm's models what their architectures begin with."""
    if isinstance(family, VisionFamily) and family.architectures:
        return tuple(f"timm {start}*" for start in family.architectures)
    return family.model_types
