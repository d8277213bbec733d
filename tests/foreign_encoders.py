"""Small random checkpoints in formats that transformers does not read, with their reference maths.

Written from the facts of the public checkpoints (names of weights, configurations, the order of
operations), not from their code:
    OpenGVLab/InternViT-300M-448px       config.json, modeling_intern_vit.py
    apple/aimv2-large-patch14-224        config.json, modeling_aimv2.py
    microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224  open_clip_config.json
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
import transformers as tf
from safetensors.torch import save_file
from torch.nn import functional

from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Weights = dict[str, torch.Tensor]

WIDTH, INNER, LAYERS, HEADS, SIDE, PATCH = 32, 48, 3, 4, 32, 8
_PATCHES = (SIDE // PATCH) ** 2
FOREIGN = ("internvit-hub", "aimv2-apple")
OPEN_CLIP = ("open-clip-vit", "open-clip-timm")


def _drawn(shapes: dict[str, tuple[int, ...]]) -> Weights:
    generator = torch.Generator().manual_seed(0)
    return {n: 0.3 * torch.randn(s, generator=generator) for n, s in shapes.items()}


def _saved(folder: Path, name: str, weights: Weights, config: dict[str, Any]) -> ModelSource:
    """The checkpoint in bf16, in two shards, with the image processor of the hub."""
    place = folder / name
    place.mkdir()
    names = list(weights)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({n: weights[n].bfloat16() for n in own}, place / file)
    index = {"weight_map": {n: file for file, own in shards.items() for n in own}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    (place / "config.json").write_text(json.dumps(config))
    processor = {
        "crop_size": SIDE,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": SIDE,
    }
    (place / "preprocessor_config.json").write_text(json.dumps(processor))
    return ModelSource(name, str(place))


def intern_vit(folder: Path) -> tuple[ModelSource, Callable[[torch.Tensor], torch.Tensor]]:
    """InternViT in the hub's format, and the patches of its last layer but one."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (1, 1, WIDTH),
        "embeddings.position_embedding": (1, _PATCHES + 1, WIDTH),
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (WIDTH,),
    }
    for n in range(LAYERS):
        start = f"encoder.layers.{n}"
        for part, (out, width) in {
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "mlp.fc1": (INNER, WIDTH),
            "mlp.fc2": (WIDTH, INNER),
        }.items():
            shapes |= {f"{start}.{part}.weight": (out, width), f"{start}.{part}.bias": (out,)}
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "ls1", "ls2"):
            shapes[f"{start}.{part}"] = (WIDTH,)
    weights = _drawn(shapes)
    config = {
        "architectures": ["InternVisionModel"],
        "auto_map": {
            "AutoConfig": "configuration_intern_vit.InternVisionConfig",
            "AutoModel": "modeling_intern_vit.InternVisionModel",
        },
        "model_type": "intern_vit_6b",
        "hidden_act": "gelu",
        "hidden_size": WIDTH,
        "image_size": SIDE,
        "initializer_factor": 0.1,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-06,
        "norm_type": "layer_norm",
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "qk_normalization": False,
        "qkv_bias": True,
        "torch_dtype": "bfloat16",
        "use_flash_attn": True,
    }
    source = _saved(folder, "internvit-hub", weights, config)
    weights = {n: w.bfloat16().float() for n, w in weights.items()}

    def features(images: torch.Tensor) -> torch.Tensor:
        x = _patches(images, weights, "embeddings.patch_embedding")
        first = weights["embeddings.class_embedding"].expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1) + weights["embeddings.position_embedding"]
        for n in range(LAYERS - 1):
            own = _below(weights, f"encoder.layers.{n}.")
            for norm, scale, part in (("norm1", "ls1", _attend), ("norm2", "ls2", _gelu_mlp)):
                normed = functional.layer_norm(
                    x, (WIDTH,), own[f"{norm}.weight"], own[f"{norm}.bias"], 1e-6
                )
                x = x + own[scale] * part(normed, own)
        return x[:, 1:]

    return source, features


def apple_aimv2(folder: Path) -> tuple[ModelSource, Callable[[torch.Tensor], torch.Tensor]]:
    """AIMv2 in Apple's format, and the patches of its last layer but one."""
    shapes: dict[str, tuple[int, ...]] = {
        "preprocessor.patchifier.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "preprocessor.patchifier.proj.bias": (WIDTH,),
        "preprocessor.patchifier.norm.weight": (WIDTH,),
        "preprocessor.pos_embed": (1, _PATCHES, WIDTH),
        "trunk.post_trunk_norm.weight": (WIDTH,),
    }
    for n in range(LAYERS):
        shapes |= {
            f"trunk.blocks.{n}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"trunk.blocks.{n}.attn.proj.weight": (WIDTH, WIDTH),
            f"trunk.blocks.{n}.mlp.fc1.weight": (INNER, WIDTH),
            f"trunk.blocks.{n}.mlp.fc2.weight": (WIDTH, INNER),
            f"trunk.blocks.{n}.mlp.fc3.weight": (INNER, WIDTH),
            f"trunk.blocks.{n}.norm_1.weight": (WIDTH,),
            f"trunk.blocks.{n}.norm_2.weight": (WIDTH,),
        }
    weights = _drawn(shapes)
    config = {
        "architectures": ["AIMv2Model"],
        "auto_map": {
            "AutoConfig": "configuration_aimv2.AIMv2Config",
            "AutoModel": "modeling_aimv2.AIMv2Model",
        },
        "model_type": "aimv2",
        "hidden_size": WIDTH,
        "image_size": SIDE,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "qkv_bias": False,
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float32",
        "use_bias": False,
    }
    source = _saved(folder, "aimv2-apple", weights, config)
    weights = {n: w.bfloat16().float() for n, w in weights.items()}

    def features(images: torch.Tensor) -> torch.Tensor:
        x = _patches(images, weights, "preprocessor.patchifier.proj")
        x = _rms(x, weights["preprocessor.patchifier.norm.weight"])
        x = x + weights["preprocessor.pos_embed"]
        for n in range(LAYERS - 1):
            own = _below(weights, f"trunk.blocks.{n}.")
            x = x + _attend(_rms(x, own["norm_1.weight"]), own)
            normed = _rms(x, own["norm_2.weight"])
            gate = functional.silu(normed @ own["mlp.fc1.weight"].T)
            x = x + (gate * (normed @ own["mlp.fc3.weight"].T)) @ own["mlp.fc2.weight"].T
        return x

    return source, features


def open_clip(
    folder: Path, name: str
) -> tuple[ModelSource, Callable[[torch.Tensor], torch.Tensor]]:
    """A checkpoint that open_clip itself made, and the patches of its last layer but one.

    `open-clip-timm` has BiomedCLIP's settings, with a smaller ViT of timm.
    """
    import open_clip as library

    vision: dict[str, Any] = {
        "layers": LAYERS,
        "width": WIDTH,
        "head_width": 8,
        "patch_size": PATCH,
        "image_size": SIDE,
    }
    if name == "open-clip-timm":
        vision = {
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        }
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 4, "layers": 1}
    model_cfg = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    tf.set_seed(0)
    kind = library.model.CustomTextCLIP if name == "open-clip-timm" else library.model.CLIP
    if name == "open-clip-vit":
        model_cfg["quick_gelu"] = True
    model = kind(**model_cfg).eval()
    place = folder / name
    place.mkdir()
    save_file(model.state_dict(), place / "open_clip_model.safetensors")
    settings = {
        "model_cfg": model_cfg,
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
    (place / "open_clip_config.json").write_text(json.dumps(settings))

    def features(images: torch.Tensor) -> torch.Tensor:
        if name == "open-clip-timm":
            maps = model.visual.trunk.forward_intermediates(images, intermediates_only=True)[-2]
        else:
            maps = model.visual.forward_intermediates(images)["image_intermediates"][-2]
        return maps.flatten(2).transpose(1, 2)

    return ModelSource(name, str(place)), features


def _below(weights: Weights, start: str) -> Weights:
    return {n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)}


def _patches(images: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    maps = functional.conv2d(
        images, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=PATCH
    )
    return maps.flatten(2).transpose(1, 2)


def _rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def _linear(x: torch.Tensor, own: Weights, name: str) -> torch.Tensor:
    return functional.linear(x, own[f"{name}.weight"], own.get(f"{name}.bias"))


def _attend(x: torch.Tensor, own: Weights) -> torch.Tensor:
    """Softmax attention with one projection for queries, keys and values, in this order."""
    q, k, v = _linear(x, own, "attn.qkv").view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, dim=-1)
    return _linear((weights @ v).transpose(1, 2).flatten(2), own, "attn.proj")


def _gelu_mlp(x: torch.Tensor, own: Weights) -> torch.Tensor:
    return _linear(functional.gelu(_linear(x, own, "mlp.fc1")), own, "mlp.fc2")
