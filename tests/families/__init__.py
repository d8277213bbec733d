"""Small random checkpoints of every architecture, in the format of the hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import timm
import transformers as tf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from mordal_optuna.pool import ModelSource
from tests.foreign_encoders import FOREIGN, apple_aimv2, intern_vit

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = ("<pad>", "<eos>", "<unk>", "what", "is", "this", "?", "red", "a", "box", "yes", "no")
_TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}

LLMS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _GROUPED),
    "llama-tied": ("LlamaForCausalLM", {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", _GROUPED),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", {**_GROUPED, "head_dim": 8}),
    "gemma": ("GemmaForCausalLM", {**_GROUPED, "head_dim": 8}),
    "gemma2": (
        "Gemma2ForCausalLM",
        {**_GROUPED, "head_dim": 8, "final_logit_softcapping": 0.5},
    ),
    "gemma3": ("Gemma3ForCausalLM", {**_GROUPED, "head_dim": 8}),
    "phi3": ("Phi3ForCausalLM", _GROUPED),
    "olmo2": ("Olmo2ForCausalLM", _GROUPED),
    "smollm3": ("SmolLM3ForCausalLM", _GROUPED),
    "stablelm": ("StableLmForCausalLM", _GROUPED),
    "granite": ("GraniteForCausalLM", {**_GROUPED, "logits_scaling": 8.0}),
    "gpt-neox": ("GPTNeoXForCausalLM", _TEXT),
    "opt": (
        "OPTForCausalLM",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 32,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 1,
        },
    ),
}

VISION: dict[str, tuple[str, dict[str, Any], int]] = {
    "clip": ("CLIPVisionModel", _VISION, 16),
    "siglip": ("SiglipVisionModel", _VISION, 16),
    "vit": ("ViTModel", _VISION, 16),
    "dinov2": ("Dinov2Model", _VISION, 16),
    "dinov2-registers": ("Dinov2WithRegistersModel", {**_VISION, "num_register_tokens": 4}, 16),
    "dinov3": ("DINOv3ViTModel", {**_VISION, "num_register_tokens": 4}, 16),
    "aimv2": ("Aimv2VisionModel", _VISION, 16),
    "internvit": (
        "InternVLVisionModel",
        {**_VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        16,
    ),
    "vit-classifier": ("ViTForImageClassification", _VISION, 16),
    "aimv2-full": ("Aimv2Model", {}, 16),
    "dinov3-convnext": (
        "DINOv3ConvNextModel",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_channels": 3},
        4,
    ),
    "convnext": (
        "ConvNextModel",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_channels": 3},
        4,
    ),
    # Formats that transformers does not read, see `foreign_encoders`.
    "internvit-hub": ("", {}, 16),
    "aimv2-apple": ("", {}, 16),
    # A whole InternVL, of which the encoder is a part; and timm's models, by their own names.
    "internvl": ("InternVLForConditionalGeneration", {}, 16),
    "timm-eva02": (
        "eva02_tiny_patch14_224",
        {"img_size": 56, "embed_dim": 32, "depth": 3, "num_heads": 4},
        16,
    ),
    "timm-eva02-clip": (
        "eva02_base_patch16_clip_224",
        {"img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 4},
        16,
    ),
    "timm-convnext-clip": (
        "convnext_base",
        {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
        4,
    ),
}


def random_llm(folder: Path, name: str, **changed: int) -> ModelSource:
    """An LLM of a family, with a tokenizer of a few words."""
    loader, options = LLMS[name]
    kind = getattr(tf, loader)
    tf.set_seed(0)
    model = kind(kind.config_class(**{**options, **changed}))
    # Norms and biases start at 1 and 0; moved from there, so that losing one changes the result.
    for layer in model.modules():
        for parameter in layer.parameters(recurse=False):
            if parameter.ndim == 1:
                parameter.data += 0.1 * parameter.data.clone().normal_()
    model.save_pretrained(folder / name)
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(_WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder / name)
    return ModelSource(name, str(folder / name))


def random_encoder(folder: Path, name: str) -> ModelSource:
    """An encoder of a family, with an image processor of its size (64 for feature maps)."""
    tf.set_seed(0)
    if name.startswith("timm-"):
        return _random_timm(folder, name)
    if name in FOREIGN:
        return (intern_vit if name == "internvit-hub" else apple_aimv2)(folder)[0]
    loader, options, _ = VISION[name]
    kind = getattr(tf, loader)
    whole = {"internvl": _internvl, "aimv2-full": _aimv2}
    config = whole[name]() if name in whole else kind.config_class(**options)
    kind(config).save_pretrained(folder / name)
    side = 64 if "convnext" in name else 32
    tf.CLIPImageProcessor(
        size={"height": side, "width": side}, do_center_crop=False
    ).save_pretrained(folder / name)
    return ModelSource(name, str(folder / name))


def _internvl() -> tf.InternVLConfig:
    vision = tf.InternVLVisionConfig(**VISION["internvit"][1])
    return tf.InternVLConfig(vision_config=vision, text_config=tf.Qwen2Config(**_GROUPED))


def _aimv2() -> tf.Aimv2Config:
    """As apple/aimv2-large-patch14-224-lit: vision and text."""
    text = {key: _TEXT[key] for key in _TEXT if not key.endswith("_token_id")}
    return tf.Aimv2Config(vision_config=_VISION, text_config={**text, "eos_token_id": 1})


def _random_timm(folder: Path, name: str) -> ModelSource:
    """A timm model in the format of the hub: its own weight names and config.json."""
    architecture, options, _ = VISION[name]
    model = timm.create_model(architecture, num_classes=0, **options)
    side = options.get("img_size", 64)
    settings = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": options,
        "pretrained_cfg": {
            **{key: model.pretrained_cfg[key] for key in ("mean", "std", "interpolation")},
            "input_size": [3, side, side],
            "crop_pct": 0.9,
            "crop_mode": "center",
        },
    }
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(settings))
    save_file(model.state_dict(), folder / name / "model.safetensors")
    return ModelSource(name, str(folder / name))
