"""Loading of configurations, tokenizers, image processors and weights, local or from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPImageProcessor

from mordal_optuna.errors import ModelError
from mordal_optuna.models.families import llm_family, vision_family

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.models.template import Template
    from mordal_optuna.pool import ModelSource

Precision = Literal["fp32", "bf16"]
# `auto` leaves the choice to transformers, which uses SDPA for most architectures.
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Errors of transformers for a missing folder, hub id, file, weight or package, and for a broken
# configuration.
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError)


def check_model(source: ModelSource, kind: Literal["vision_encoder", "llm"]) -> None:
    """Check that a model exists and is supported, without loading its weights.

    Args:
        source: name and location of the model.
        kind: role of the model in the pool.

    Raises:
        ModelError: if it is missing or broken, or its architecture is not supported.
    """
    config = load_config(source)
    if kind == "llm":
        llm_family(source.name, config)
        load_tokenizer(source)
    else:
        vision_family(source.name, config)
        load_image_processor(source)


def load_config(source: ModelSource) -> PretrainedConfig:
    """Load a model's configuration.

    Args:
        source: name and location of the model.

    Raises:
        ModelError: if it cannot be loaded.
    """
    try:
        return AutoConfig.from_pretrained(
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Load an LLM's tokenizer.

    A tokenizer without a pad token pads with eos; padding is neither attended to nor trained.

    Args:
        source: name and location of the LLM.

    Raises:
        ModelError: if it cannot be loaded, or has no eos token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error
    if tokenizer.eos_token is None:
        raise ModelError(source.name, "its tokenizer has no eos token; answers must end with one")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_template(source: ModelSource) -> Template:
    """Read an LLM's own chat template; of a local folder without loading the tokenizer.

    Args:
        source: name and location of the LLM.

    Raises:
        ModelError: if it cannot be read.
    """
    folder = Path(source.location)
    if not folder.is_dir():
        return load_tokenizer(source).chat_template
    single, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    try:
        stored = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        template = stored.get("chat_template") if isinstance(stored, dict) else None
        if single.is_file():
            template = single.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(source.name, _reason(source, error)) from error
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    several = (folder / "additional_chat_templates").is_dir()
    return {"default": template} if several and template else template


def load_image_processor(source: ModelSource) -> BaseImageProcessor:
    """Load an encoder's image processor; timm's is converted to one that can be exported.

    Args:
        source: name and location of the encoder.

    Raises:
        ModelError: if it cannot be loaded or converted.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error
    if type(processor).__name__ == "TimmWrapperImageProcessor":
        return _from_timm(source.name, processor.data_config)
    return processor


def load_weights(
    source: ModelSource,
    loader: type,
    precision: Precision,
    device: torch.device,
    *,
    key_mapping: dict[str, str] | None = None,
    attention: Attention = "auto",
) -> PreTrainedModel:
    """Load a pretrained model in the target dtype, directly on its device.

    Args:
        source: name and location of the model.
        loader: transformers class with `from_pretrained`.
        precision: `fp32` or `bf16`, the dtype of the weights.
        device: torch device for the model.
        key_mapping: regular expressions that rename weights, with their replacements; None renames
            none.
        attention: implementation of attention, see `Attention`.

    Raises:
        ModelError: if it cannot be loaded or lacks weights.
    """
    chosen = {"attn_implementation": attention} if attention != "auto" else {}
    try:
        model, info = loader.from_pretrained(  # type: ignore[attr-defined]
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            dtype=DTYPES[precision],
            device_map={"": device},
            output_loading_info=True,
            key_mapping=key_mapping,
            **chosen,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            source.name,
            f"its checkpoint lacks {len(missing)} weights, such as {missing[0]!r}; "
            "they would be random",
        )
    return model


def _from_timm(name: str, data: dict) -> BaseImageProcessor:
    """CLIP image processor that computes the same as timm's transform for evaluation.

    Raises:
        ModelError: if CLIP's processor has no equivalent of the crop mode.
    """
    from PIL.Image import Resampling

    _, height, width = data["input_size"]
    if data["crop_mode"] == "center":
        if height != width:
            raise ModelError(name, f"crops to {height} x {width} pixels; a square is supported")
        side = int(height / data["crop_pct"])
        size = {"shortest_edge": side}
    elif data["crop_mode"] == "squash":
        size = {"height": int(height / data["crop_pct"]), "width": int(width / data["crop_pct"])}
    else:
        raise ModelError(
            name, f"has the crop mode {data['crop_mode']!r}; center and squash are supported"
        )
    return CLIPImageProcessor(
        size=size,
        crop_size={"height": height, "width": width},
        resample=Resampling[data["interpolation"].upper()],
        image_mean=list(data["mean"]),
        image_std=list(data["std"]),
    )


def _reason(source: ModelSource, error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return (
        f"cannot be loaded from {source.location!r} ({first}); it must be an existing local "
        "folder or a hub id, with safetensors weights"
    )
