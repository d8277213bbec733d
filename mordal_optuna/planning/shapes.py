"""Sizes of models, read from their configurations as plain values; loads no torch.

Symbols:
    d, l   width and number of layers
    i      width of the feed-forward layers
    q, k   widths of all queries and of all keys together
    V      tokens of the vocabulary
    s      tokens that an encoder computes for an image, its CLS and register tokens included
    r      rank of LoRA

A linear layer from a to b has a b weights, and LoRA adds r (a + b). A layer of a transformer has
d (q + 2 k) + q d weights of attention and 2 d i of feed-forward, or 3 d i if that is gated. An
encoder's forward pass takes 2 operations for each weight and token, and 4 s^2 d l for attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mordal_optuna.models.families import llm_family, vision_family

if TYPE_CHECKING:
    from collections.abc import Mapping

# Defaults of transformers' configurations that a checkpoint with a text tower may leave out of its
# `vision_config`: width, layers, feed-forward width, side of an image, side of a patch.
_KEYS = ("hidden_size", "num_hidden_layers", "intermediate_size", "image_size", "patch_size")
_DEFAULTS = {
    "clip": (768, 12, 3072, 224, 32),
    "siglip": (768, 12, 3072, 224, 16),
    "vit": (768, 12, 3072, 224, 16),
    "dinov2": (768, 12, 3072, 224, 14),
    "dinov2_with_registers": (768, 12, 3072, 224, 16),
    "dinov3_vit": (384, 12, 1536, 224, 16),
    "aimv2": (1024, 24, 2816, 224, 14),
    "internvl": (1024, 24, 4096, 448, 14),
}
_CONVNEXT = {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]}
# Families whose feed-forward layers have two matrices instead of three.
_PLAIN = ("opt", "gpt_neox")


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of a vision encoder.

    Attributes:
        kind: model type, or timm's name of the architecture.
        width: channels of the layer that is fed to the projector.
        layers: number of layers; of a ConvNeXt that of all stages.
        side: side of its images in pixels.
        patch: side of the square of pixels that one feature covers.
        image_tokens: features of one image, which are as many tokens of the LLM.
        sequence: s; of a ConvNeXt the pixels of its last map.
        parameters: number of parameters, computed from the configuration.
        operations: floating-point operations of one image's forward pass.
    """

    kind: str
    width: int
    layers: int
    side: int
    patch: int
    image_tokens: int
    sequence: int
    parameters: int
    operations: float


@dataclass(frozen=True)
class LlmShape:
    """Sizes of an LLM.

    Attributes:
        kind: model type.
        hidden: d.
        layers: l.
        intermediate: i.
        queries: q.
        keys: k.
        vocabulary: V.
        gated: whether feed-forward layers have three matrices.
        tied: whether the head has the weights of the embeddings.
        targets: number of linear layers of a layer that get LoRA.
        packs: whether samples can be joined to one row.
    """

    kind: str
    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int
    gated: bool
    tied: bool
    targets: int
    packs: bool = True

    @property
    def linear(self) -> int:
        """Weights of all linear layers, without embeddings and head."""
        attention = self.hidden * (self.queries + 2 * self.keys) + self.queries * self.hidden
        return self.layers * (attention + self._matrices * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Weights of the head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Number of parameters, without those of norms and biases, which are below 0.1 %."""
        return self.linear + self.head * (1 if self.tied else 2)

    def lora(self, rank: int) -> int:
        """Parameters of LoRA.

        Args:
            rank: r.
        """
        d, i, q, k = self.hidden, self.intermediate, self.queries, self.keys
        if self.targets == 4:  # queries, keys and values are one layer, and so are gate and up
            up = 2 * i if self.gated else i
            sides = (d + q + 2 * k) + (q + d) + (d + up) + (i + d)
        else:
            sides = (d + q) + 2 * (d + k) + (q + d) + (self._matrices) * (d + i)
        return self.layers * rank * sides

    @property
    def _matrices(self) -> int:
        return 3 if self.gated else 2


def llm_shape(name: str, config: Mapping[str, Any]) -> LlmShape:
    """Sizes of an LLM.

    Args:
        name: name of the LLM, for errors.
        config: content of its `config.json`.

    Raises:
        ModelError: if its architecture is not supported.
        KeyError: if the configuration lacks a size.
    """
    inner = config.get("text_config") or {}
    merged = {**inner, **config} if "hidden_size" not in config else dict(config)
    plain = SimpleNamespace(**{"model_type": "?", "hidden_size": 0, **merged})
    family = llm_family(name, plain)
    heads = int(merged["num_attention_heads"])
    keys = int(merged.get("num_key_value_heads") or heads)
    head = int(merged.get("head_dim") or merged["hidden_size"] // heads)
    return LlmShape(
        kind=plain.model_type,
        hidden=int(merged["hidden_size"]),
        layers=int(merged["num_hidden_layers"]),
        intermediate=int(merged.get("intermediate_size") or merged["ffn_dim"]),
        queries=heads * head,
        keys=keys * head,
        vocabulary=int(merged["vocab_size"]),
        gated=plain.model_type not in _PLAIN,
        tied=bool(merged.get("tie_word_embeddings", plain.model_type in _TIED)),
        targets=len(family.lora_targets),
        packs=family.packs,
    )


# Families whose configuration ties the head unless it says otherwise.
_TIED = ("gemma", "gemma2", "gemma3_text", "opt", "smollm3")


def encoder_shape(name: str, config: Mapping[str, Any], side: int | None) -> EncoderShape:
    """Sizes of a vision encoder that transformers reads.

    Args:
        name: name of the encoder, for errors.
        config: content of its `config.json`.
        side: side of its images in pixels; None for that of its configuration.

    Raises:
        ModelError: if its architecture is not supported.
        KeyError: if the configuration lacks a size.
    """
    plain = SimpleNamespace(**{"model_type": "?", **config})
    family = vision_family(name, plain)
    if family.feature_map:
        return _convnext(plain.model_type, {**_CONVNEXT, **config}, side or 224)
    base = family.model_types[0]
    known = dict(zip(_KEYS, _DEFAULTS[base], strict=True))
    read = {**known, **(config.get("vision_config") or config)}
    width, own = int(read["hidden_size"]), _whole(read["image_size"])
    if "mlp_ratio" in read and "intermediate_size" not in config:
        read["intermediate_size"] = int(read["mlp_ratio"] * width)
    registers = int(read.get(family.registers or "", 0))
    return transformer(
        plain.model_type,
        width=width,
        layers=int(read["num_hidden_layers"]),
        intermediate=int(read["intermediate_size"]),
        side=side or own,
        patch=_whole(read["patch_size"]),
        extra=int(family.class_token) + registers,
        gated=base == "aimv2" or bool(read.get("use_gated_mlp") or read.get("use_swiglu_ffn")),
    )


def transformer(
    kind: str,
    *,
    width: int,
    layers: int,
    intermediate: int,
    side: int,
    patch: int,
    extra: int,
    gated: bool = False,
) -> EncoderShape:
    """Sizes of an encoder that is a transformer over patches.

    Args:
        kind: model type, or timm's name of the architecture.
        width: d.
        layers: l.
        intermediate: i.
        side: side of its images in pixels.
        patch: side of a patch in pixels.
        extra: number of tokens beside the patches.
        gated: whether feed-forward layers have three matrices.
    """
    tokens = (side // patch) ** 2
    sequence = tokens + extra
    linear = layers * (4 * width**2 + (3 if gated else 2) * width * intermediate)
    parameters = linear + 3 * patch**2 * width + sequence * width
    operations = 2.0 * linear * sequence + 4.0 * sequence**2 * width * layers
    operations += 2.0 * 3 * patch**2 * width * tokens
    return EncoderShape(kind, width, layers, side, patch, tokens, sequence, parameters, operations)


def _convnext(kind: str, read: Mapping[str, Any], side: int) -> EncoderShape:
    """A ConvNeXt: a stem of stride 4, and stages whose maps halve from one to the next."""
    widths, depths = list(read["hidden_sizes"]), list(read["depths"])
    parameters, operations = 48 * widths[0], 0.0
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        pixels = (side // (4 * 2**stage)) ** 2
        block = 8 * width**2 + 49 * width
        down = 4 * widths[stage - 1] * width if stage else 0
        parameters += depth * block + down
        operations += 2.0 * pixels * (depth * block + down)
    patch = 4 * 2 ** (len(widths) - 1)
    tokens = (side // patch) ** 2
    return EncoderShape(
        kind, widths[-1], sum(depths), side, patch, tokens, tokens, parameters, operations
    )


def _whole(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)
