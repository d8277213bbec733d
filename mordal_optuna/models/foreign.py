"""Vision encoders in formats that transformers does not read: converted when they are loaded.

Formats:
    open_clip    `open_clip_config.json` with `open_clip_model.safetensors`; its own ViTs become
                 CLIP's, timm's stay timm's
    InternViT    `model_type: intern_vit_6b`, as in OpenGVLab/InternViT-300M-448px; otherwise read
                 by code on the hub only
    AIMv2        the backbones as Apple published them (class `AIMv2Model`), such as
                 apple/aimv2-large-patch14-224; otherwise read by code on the hub only

No code of the checkpoint runs. Towers and exports are of transformers' own classes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from transformers import (
    Aimv2VisionConfig,
    CLIPVisionConfig,
    InternVLVisionConfig,
    TimmWrapperConfig,
)
from transformers.utils import is_timm_available
from transformers.utils.hub import cached_file, extract_commit_hash

from mordal_optuna.errors import ModelError
from mordal_optuna.models.hub import HUB_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PretrainedConfig

    from mordal_optuna.pool import ModelSource

# Name of a projection that is split into those of queries, keys and values.
_FUSED = "qkv"
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

# Regular expressions of whole names of weights, and their replacements; other weights are dropped.
_LAYER = r"encoder\.layers\.(\d+)\."
_INTERN_VIT = (
    (r"embeddings\.class_embedding", "embeddings.cls_token"),
    (r"embeddings\.position_embedding", "embeddings.position_embeddings"),
    (r"embeddings\.patch_embedding\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (
        _LAYER + r"attn\.proj\.(\w+)",
        r"encoder.layer.\1.attention.projection_layer.\2",
    ),
    (_LAYER + r"attn\.(\w+)\.(\w+)", r"encoder.layer.\1.attention.\2.\3"),
    (_LAYER + r"ls([12])", r"encoder.layer.\1.lambda_\2"),
    (_LAYER + r"norm1\.(\w+)", r"encoder.layer.\1.layernorm_before.\2"),
    (_LAYER + r"norm2\.(\w+)", r"encoder.layer.\1.layernorm_after.\2"),
    (_LAYER + r"mlp\.(\w+)\.(\w+)", r"encoder.layer.\1.mlp.\2.\3"),
)
_AIMV2 = (
    (r"preprocessor\.patchifier\.proj\.(\w+)", r"embeddings.patch_embed.\1"),
    (r"preprocessor\.patchifier\.norm\.weight", "embeddings.rms_norm.weight"),
    (r"preprocessor\.pos_embed", "embeddings.position_embedding.weight"),
    (r"trunk\.blocks\.(\d+)\.attn\.qkv\.(\w+)", r"encoder.layers.\1.attention.qkv.\2"),
    (r"trunk\.blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layers.\1.attention.out_proj.\2"),
    (r"trunk\.blocks\.(\d+)\.norm_([12])\.weight", r"encoder.layers.\1.rms_norm\2.weight"),
    (r"trunk\.blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"encoder.layers.\1.ffn.gate_proj.\2"),
    (r"trunk\.blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"encoder.layers.\1.ffn.down_proj.\2"),
    (r"trunk\.blocks\.(\d+)\.mlp\.fc3\.(\w+)", r"encoder.layers.\1.ffn.up_proj.\2"),
    (r"trunk\.post_trunk_norm\.weight", "rms_norm.weight"),
)
_BLOCK = r"visual\.transformer\.resblocks\.(\d+)\."
_OPEN_CLIP = (
    (r"visual\.class_embedding", "embeddings.class_embedding"),
    (r"visual\.positional_embedding", "embeddings.position_embedding.weight"),
    (r"visual\.conv1\.weight", "embeddings.patch_embedding.weight"),
    (r"visual\.ln_pre\.(\w+)", r"pre_layrnorm.\1"),
    (r"visual\.ln_post\.(\w+)", r"post_layernorm.\1"),
    (_BLOCK + r"attn\.in_proj_(\w+)", r"encoder.layers.\1.self_attn.qkv.\2"),
    (_BLOCK + r"attn\.out_proj\.(\w+)", r"encoder.layers.\1.self_attn.out_proj.\2"),
    (_BLOCK + r"ln_([12])\.(\w+)", r"encoder.layers.\1.layer_norm\2.\3"),
    (_BLOCK + r"mlp\.c_fc\.(\w+)", r"encoder.layers.\1.mlp.fc1.\2"),
    (_BLOCK + r"mlp\.c_proj\.(\w+)", r"encoder.layers.\1.mlp.fc2.\2"),
)
_OPEN_CLIP_TIMM = ((r"visual\.trunk\.(.+)", r"timm_model.\1"),)
# Keys of open_clip's own ViTs that CLIP's class computes; all others must be unset.
_PLAIN_VIT = {
    *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"),
    *("patch_dropout", "pool_type", "final_ln_after_pool", "output_tokens"),
    *("attn_pooler_queries", "attn_pooler_heads"),
}


@dataclass(frozen=True)
class Foreign:
    """A checkpoint that is converted when it is loaded.

    Attributes:
        config: configuration of transformers' tower.
        weights: file name of the weights, without `.safetensors`.
        renamed: regular expressions of whole names of weights, with their replacements.
        transform: the image transform, in timm's terms; None if the folder has an image processor
            that transformers reads.
    """

    config: PretrainedConfig
    weights: str
    renamed: tuple[tuple[str, str], ...]
    transform: Mapping[str, Any] | None = None


def read_foreign(source: ModelSource) -> Foreign | None:
    """Recognise a checkpoint that transformers does not read.

    Args:
        source: name and location of a vision encoder.

    Returns:
        How it is converted; None for every other model.

    Raises:
        ModelError: if it is of a known format, but of an architecture that cannot be converted.
        OSError: if its files cannot be read.
    """
    path = None if source.location.startswith(HUB_PREFIX) else _file(source, "config.json")
    if path is not None:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        found = _published(settings)
    else:
        path = _file(source, "open_clip_config.json")
        if path is None:
            return None
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        found = _open_clip(source.name, settings)
    if found is not None:
        found.config._commit_hash = extract_commit_hash(path, None)
    return found


def converted(source: ModelSource, foreign: Foreign) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint under the names of transformers' tower.

    Args:
        source: name and location of the encoder.
        foreign: how the checkpoint is converted.

    Raises:
        ModelError: if it has no safetensors weights.
        OSError: if they cannot be read.
    """
    weights: dict[str, torch.Tensor] = {}
    for path in _weight_files(source, foreign.weights):
        for name, tensor in load_file(path).items():
            new = _renamed(name, foreign.renamed)
            if new is None:
                continue
            if f".{_FUSED}." in new and not new.startswith("timm_model."):
                for part, third in zip("qkv", tensor.chunk(3), strict=True):
                    weights[new.replace(f".{_FUSED}.", f".{part}_proj.")] = third.contiguous()
            elif new == "embeddings.position_embedding.weight":
                weights[new] = tensor.reshape(-1, tensor.shape[-1])
            else:
                weights[new] = tensor
    return weights


def _published(settings: Mapping[str, Any]) -> Foreign | None:
    """InternViT and AIMv2 in the formats of their authors."""
    kind, classes = settings.get("model_type"), settings.get("architectures") or ()
    if kind == "intern_vit_6b":
        side, patch = settings["image_size"], settings["patch_size"]
        intern = InternVLVisionConfig(
            **_sizes(settings),
            image_size=[side, side],
            patch_size=[patch, patch],
            attention_bias=settings.get("qkv_bias", False),
            use_qk_norm=settings.get("qk_normalization", True),
            norm_type=settings.get("norm_type", "rms_norm"),
            layer_norm_eps=settings.get("layer_norm_eps", 1e-6),
            hidden_act=settings.get("hidden_act", "gelu"),
        )
        return Foreign(intern, "model", _INTERN_VIT)
    if kind == "aimv2" and "AIMv2Model" in classes:
        aim = Aimv2VisionConfig(
            **_sizes(settings),
            image_size=settings["image_size"],
            patch_size=settings["patch_size"],
            rms_norm_eps=settings.get("rms_norm_eps", 1e-5),
            qkv_bias=settings.get("qkv_bias", False),
            mlp_bias=settings.get("use_bias", False),
            use_head=False,
        )
        return Foreign(aim, "model", _AIMV2)
    return None


def _sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: settings[name] for name in names}


def _open_clip(name: str, settings: Mapping[str, Any]) -> Foreign:
    model = settings["model_cfg"]
    vision = model["vision_cfg"]
    preprocess = settings.get("preprocess_cfg") or {}
    side = preprocess.get("size") or vision.get("image_size", 224)
    height, width = side if isinstance(side, list) else (side, side)
    modes = {"shortest": "center", "squash": "squash", "longest": "border"}
    transform = {
        "input_size": (3, height, width),
        "crop_pct": 1.0,
        "crop_mode": modes[preprocess.get("resize_mode", "shortest")],
        "interpolation": preprocess.get("interpolation", "bicubic"),
        "mean": preprocess.get("mean", _OPENAI_MEAN),
        "std": preprocess.get("std", _OPENAI_STD),
    }
    if vision.get("timm_model_name"):
        config = _timm_config(name, vision)
        return Foreign(config, "open_clip_model", _OPEN_CLIP_TIMM, transform)
    quick = bool(model.get("quick_gelu", False))
    return Foreign(_vit_config(name, vision, quick), "open_clip_model", _OPEN_CLIP, transform)


def _timm_config(name: str, vision: Mapping[str, Any]) -> TimmWrapperConfig:
    """A model of timm as open_clip builds it: with its own pooling if that is also its head."""
    if not is_timm_available():
        raise ModelError(
            name,
            f"is timm's {vision['timm_model_name']!r}, and timm is not installed; install this "
            "package with the extra `open-clip`",
        )
    pool = vision.get("timm_pool", "avg")
    apart = vision.get("timm_proj", "linear") in ("linear", "mlp")
    own_pool = {} if apart or pool in ("abs_attn", "rot_attn") else {"global_pool": pool}
    return TimmWrapperConfig(architecture=vision["timm_model_name"], model_args=own_pool)


def _vit_config(name: str, vision: Mapping[str, Any], quick_gelu: bool) -> CLIPVisionConfig:
    odd = [key for key, value in vision.items() if key not in _PLAIN_VIT and _is_set(key, value)]
    if odd or isinstance(vision.get("layers"), list):
        reason = f"has {odd[0]!r}" if odd else "is a ResNet"
        raise ModelError(
            name,
            f"{reason} in open_clip_config.json; of open_clip's encoders plain ViTs and timm's "
            "models are supported",
        )
    width = vision.get("width", 768)
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", 4.0)),
        num_hidden_layers=vision.get("layers", 12),
        num_attention_heads=width // vision.get("head_width", 64),
        image_size=vision.get("image_size", 224),
        patch_size=vision.get("patch_size", 16),
        hidden_act="quick_gelu" if quick_gelu else "gelu",
    )


def _is_set(key: str, value: object) -> bool:
    """Whether a key differs from open_clip's default."""
    return bool(value) and not (key == "pos_embed_type" and value == "learnable")


def _renamed(name: str, renamed: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, replacement in renamed:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


def _weight_files(source: ModelSource, stem: str) -> list[str]:
    """The safetensors file of a checkpoint, or the files that its index lists."""
    whole = _file(source, f"{stem}.safetensors")
    if whole is not None:
        return [whole]
    index = _file(source, f"{stem}.safetensors.index.json")
    if index is None:
        raise ModelError(
            source.name,
            f"has no {stem}.safetensors at {source.location!r}; convert its weights first, "
            "such as by safetensors.torch.save_file",
        )
    shards = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
    files = (_file(source, shard) for shard in sorted(set(shards.values())))
    return [path for path in files if path is not None]


def _file(source: ModelSource, name: str) -> str | None:
    """Path of a file of a model, which is downloaded if need be; None if there is no such file."""
    path: str | None = cached_file(
        source.location.removeprefix(HUB_PREFIX),
        name,
        revision=source.revision or "main",
        _raise_exceptions_for_missing_entries=False,
    )
    return path
