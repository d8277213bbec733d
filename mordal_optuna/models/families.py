"""Descriptions of the supported architectures, for use in a LLaVA-style model.

A model's family follows from its `config.model_type`, never from its name.
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
        model_types: values of `config.model_type`, for the full checkpoint and for the tower.
        tower: name of the transformers class that loads the tower from either.
        class_token: whether the first token is a CLS token, which is dropped.
        registers: name of the configuration's number of register tokens, which follow the first
            token and are dropped too; None if a family has no register tokens.
        feature_map: whether hidden states are maps, images x channels x height x width.
        feature_layer: index of the hidden state that is fed to the projector; LLaVA uses the last
            but one.
        key_mapping: regular expressions that rename weights of a full checkpoint, and what they
            are replaced by.
        optional: beginnings of names of the tower's weights that no hidden state depends on, and
            that some of its checkpoints lack.
        image_sizes: how the encoder takes images of another size than its own. `any`: positions
            are computed, or interpolated by the encoder itself. `table`: its table of learned
            positions is interpolated once, see `resizing`. `timm`: by timm's `set_input_size`.
        architectures: prefixes of `config.architecture`, for timm's models, which all have one
            model type; empty for other families.
    """

    model_types: tuple[str, ...]
    tower: str
    class_token: bool
    registers: str | None = None
    feature_map: bool = False
    feature_layer: int = -2
    key_mapping: tuple[tuple[str, str], ...] = ()
    optional: tuple[str, ...] = ()
    image_sizes: Literal["any", "table", "timm"] = "any"
    architectures: tuple[str, ...] = ()

    def describes(self, config: PretrainedConfig) -> bool:
        """Whether a model belongs to the family.

        Args:
            config: configuration of the model.
        """
        if config.model_type not in self.model_types:
            return False
        architecture = getattr(config, "architecture", "")
        return not self.architectures or architecture.startswith(self.architectures)

    @property
    def select_strategy(self) -> Literal["default", "full"]:
        """LLaVA's name of the tokens that are kept: `default` drops the first one, `full` none."""
        return "default" if self.class_token else "full"

    def tower_class(self) -> type[PreTrainedModel]:
        """The transformers class that loads the tower."""
        tower: type[PreTrainedModel] = getattr(transformers, self.tower)
        return tower

    def register_tokens(self, config: PretrainedConfig) -> int:
        """Number of register tokens of a model.

        Args:
            config: configuration of the model.
        """
        return int(getattr(config, self.registers)) if self.registers else 0

    def patch_size(self, tower: PreTrainedModel) -> int:
        """Side of the square of pixels that one feature covers.

        Args:
            tower: loaded tower of this family.
        """
        if self.architectures:
            return int(tower.timm_model.feature_info[self.feature_layer]["reduction"])
        if self.feature_map:  # a stem of stride 4; each stage but the first halves the map
            return 4 * 2 ** (len(tower.config.hidden_sizes) - 1)
        size = tower.config.patch_size
        return int(size[0] if isinstance(size, list | tuple) else size)

    def width(self, tower: PreTrainedModel) -> int:
        """Number of channels of the layer that is fed to the projector.

        Args:
            tower: loaded tower of this family.
        """
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
        softcap: name of the configuration's c, where logits l become c tanh(l / c); None without.
            LLaVA's own head ignores it.
        divide_logits: name of the configuration's divisor of logits; None without. LLaVA's own
            head ignores it.
        packs: whether samples joined to one row are kept apart by their positions.
        layers: path of the list of layers in the model without its head.
    """

    model_types: tuple[str, ...]
    lora_targets: tuple[str, ...]
    softcap: str | None = None
    divide_logits: str | None = None
    packs: bool = True
    layers: str = "layers"


VISION_FAMILIES = (
    VisionFamily(
        ("clip", "clip_vision_model"), "CLIPVisionModel", class_token=True, image_sizes="table"
    ),
    # transformers loads SigLIP 2 of fixed resolution as SigLIP.
    VisionFamily(
        ("siglip", "siglip_vision_model"),
        "SiglipVisionModel",
        class_token=False,
        image_sizes="table",
    ),
    # A classifier has no pooler.
    VisionFamily(
        ("vit",), "ViTModel", class_token=True, optional=("pooler.",), image_sizes="table"
    ),
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
    VisionFamily(
        ("aimv2", "aimv2_vision_model"),
        "Aimv2VisionModel",
        class_token=False,
        key_mapping=((r"^vision_model\.", ""),),
        image_sizes="table",
    ),
    VisionFamily(
        ("internvl", "internvl_vision"),
        "InternVLVisionModel",
        class_token=True,
        key_mapping=((r"^(model\.)?vision_tower\.", ""),),
    ),
    # The last map, since the one before it has another width; CLIP-trained or not.
    VisionFamily(
        ("convnext",), "ConvNextModel", class_token=False, feature_map=True, feature_layer=-1
    ),
    VisionFamily(
        ("dinov3_convnext",),
        "DINOv3ConvNextModel",
        class_token=False,
        feature_map=True,
        feature_layer=-1,
    ),
    # timm returns maps without CLS for ViTs as well. EVA-CLIP is EVA-02 with CLIP training.
    VisionFamily(
        ("timm_wrapper",),
        "TimmWrapperModel",
        class_token=False,
        feature_map=True,
        image_sizes="timm",
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
        (
            *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2", "smollm3"),
            "stablelm",
        ),
        _GATED,
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

    Args:
        name: name of the model, for errors.
        config: configuration of the model.

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

    Args:
        name: name of the model, for errors.
        config: configuration of the model.

    Raises:
        ModelError: if its architecture is not supported, or its embeddings have another width than
            its hidden states.
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
    """Model types; for timm's models the prefixes of their architectures."""
    if isinstance(family, VisionFamily) and family.architectures:
        return tuple(f"timm {start}*" for start in family.architectures)
    return family.model_types
