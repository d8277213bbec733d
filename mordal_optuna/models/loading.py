"""Loading of configurations, tokenizers, image processors and weights, local or from the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from mordal_optuna.errors import ModelError
from mordal_optuna.models.families import llm_family, vision_family
from mordal_optuna.models.foreign import Foreign, converted, read_foreign
from mordal_optuna.models.pixels import pixel_processor

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.models.template import Template
    from mordal_optuna.pool import ModelSource

Precision = Literal["fp32", "bf16"]
# `auto` leaves the choice to transformers, which uses SDPA for most architectures.
Attention = Literal[
    "auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"
]
# What an implementation of attention needs: whether it is there, and its name.
_NEEDED: dict[str, tuple[Callable[..., bool], str]] = {
    "flash_attention_2": (is_flash_attn_2_available, "the package flash-attn and a GPU"),
    "flash_attention_3": (is_flash_attn_3_available, "the package flash-attn-3 and a GPU"),
    # Its backward pass is compiled for GPUs alone.
    "flex_attention": (lambda **_: torch.accelerator.is_available(), "a GPU"),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Errors of transformers for a missing folder, hub id, file, weight or package, and for a broken
# configuration, whose values may be of any type, or for broken weights.
_LOADING_ERRORS = (
    *(OSError, ValueError, LookupError, RuntimeError, ImportError, TypeError, AttributeError),
    *(StrictDataclassError, SafetensorError),
)


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
    """Load a model's configuration; of a checkpoint that is converted, that of the result.

    Args:
        source: name and location of the model.

    Raises:
        ModelError: if it cannot be loaded.
    """
    foreign = _foreign(source)
    if foreign is not None:
        return foreign.config
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
    """Load the image processor that makes an encoder's pixels, everywhere and in the export.

    Args:
        source: name and location of the encoder, and how its images become squares.

    Raises:
        ModelError: if it cannot be loaded, or has no equivalent that can be exported.
    """
    foreign = _foreign(source)
    if foreign is not None and foreign.transform is not None:
        return pixel_processor(source, foreign.transform)
    try:
        processor = AutoImageProcessor.from_pretrained(
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error
    timm = type(processor).__name__ == "TimmWrapperImageProcessor"
    return pixel_processor(source, processor.data_config if timm else processor)


def load_weights(
    source: ModelSource,
    loader: type,
    precision: Precision,
    device: torch.device,
    *,
    key_mapping: dict[str, str] | None = None,
    attention: Attention = "auto",
    optional: tuple[str, ...] = (),
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
        optional: beginnings of names of weights that nothing reads, and that may be missing; they
            are then 0.

    Raises:
        ModelError: if it cannot be loaded or lacks weights.
    """
    _check_attention(source.name, attention)
    chosen: dict[str, Any] = {"attn_implementation": attention} if attention != "auto" else {}
    foreign = _foreign(source)
    try:
        if foreign is not None:
            chosen |= {"config": foreign.config, "state_dict": converted(source, foreign)}
        # Missing weights are drawn by the global random generator, whose state must not change.
        with torch.random.fork_rng(devices=[device] if device.type != "cpu" else []):
            model, info = loader.from_pretrained(  # type: ignore[attr-defined]
                None if foreign else source.location,
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
    unread = {name for name in info["missing_keys"] if name.startswith(optional or ("\0",))}
    with torch.no_grad():
        for name in unread:
            model.get_parameter(name).zero_()
    missing = sorted(set(info["missing_keys"]) - unread)
    if missing:
        raise ModelError(
            source.name,
            f"its checkpoint lacks {len(missing)} weights, such as {missing[0]!r}; "
            "they would be random",
        )
    return model


def _check_attention(name: str, attention: Attention) -> None:
    there, needed = _NEEDED.get(attention, (None, ""))
    if there is not None and not there(kernels_fallback_ok=True):
        raise ModelError(
            name,
            f"attention: got {attention}, which needs {needed}; auto, sdpa and eager need none",
        )


def _foreign(source: ModelSource) -> Foreign | None:
    try:
        return read_foreign(source)
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error


def _reason(source: ModelSource, error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = " ".join(text[0].split()) if text else type(error).__name__
    if isinstance(error, json.JSONDecodeError):
        first = f"a JSON file of it is broken: {first}"
    elif "trust_remote_code" in str(error):
        first = "it runs code of its own; give it `trust_remote_code: true` if you trust that code"
    elif "ignore_mismatched_sizes" in first:
        first = "its weights have other shapes than its config.json says"
    elif isinstance(error, StrictDataclassError | TypeError | AttributeError):
        first = f"its configuration is broken: {' '.join(' '.join(text).split())}"
    return (
        f"cannot be loaded from {source.location!r} ({first}); it must be an existing local "
        "folder or a hub id, with safetensors weights"
    )
