"""Join a vision encoder and an LLM to one LLaVA-style model.

The parts are loaded once, in the target dtype, and transplanted into a skeleton built on the
meta device, so no second copy of the LLM is ever in memory. Everything that could silently be
wrong (missing weights, image placeholders that do not match the features) is checked here, before
any training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mordal_optuna.alignment.families import LlmFamily, VisionFamily, llm_family, vision_family
from mordal_optuna.alignment.template import IMAGE_TOKEN, chat_template
from mordal_optuna.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.config import LoraSettings
    from mordal_optuna.pool import ModelSource

Precision = Literal["fp32", "bf16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Raised by transformers for a missing folder, hub id, file, weight or a broken configuration.
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError)


@dataclass
class Vlm:
    """A live candidate.

    Attributes:
        model: LLaVA with LoRA injected (or without), encoder frozen.
        processor: tokenizer, image processor and chat template.
        image_tokens: placeholders that one image takes in the token sequence.
    """

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor
    image_tokens: int

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Projector and LoRA parameters by name, in a fixed order."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}


@dataclass
class Encoder:
    """A vision encoder alone, with what belongs to it."""

    tower: PreTrainedModel
    image_processor: BaseImageProcessor
    family: VisionFamily

    def pixels(self, images: list[Image]) -> torch.Tensor:
        """Images as the encoder wants them: images x channels x height x width."""
        values = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return values.to(dtype=self.tower.dtype)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patch features of the layer that alignment feeds on: images x patches x width."""
        hidden = self.tower(pixels, output_hidden_states=True).hidden_states
        layer = hidden[self.family.feature_layer]
        return layer[:, 1:] if self.family.class_token else layer


def check_model(source: ModelSource, kind: Literal["vision_encoder", "llm"]) -> None:
    """Whether a model is there and supported, without loading its weights.

    Raises:
        ModelError: if it is missing, broken, or of an architecture that is not supported.
    """
    config = load_config(source)
    if kind == "llm":
        llm_family(source.name, config)
        load_tokenizer(source)
    else:
        vision_family(source.name, config)
        load_image_processor(source)


def load_config(source: ModelSource) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        ModelError: if there is none.
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
    """The LLM's tokenizer; one without a pad token pads with eos (never attended, never trained).

    Raises:
        ModelError: if there is none, or it has neither a pad nor an eos token.
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


def load_image_processor(source: ModelSource) -> BaseImageProcessor:
    """The encoder's image processor.

    Raises:
        ModelError: if there is none.
    """
    try:
        return AutoImageProcessor.from_pretrained(
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(source.name, _reason(source, error)) from error


def load_encoder(source: ModelSource, precision: Precision, device: torch.device) -> Encoder:
    """The vision tower of a checkpoint, frozen, in eval mode.

    Raises:
        ModelError: if it cannot be loaded, is not supported, or lacks weights.
    """
    family = vision_family(source.name, load_config(source))
    tower = _load_weights(
        source, family.tower_class(), precision, device, dict(family.key_mapping) or None
    )
    tower.requires_grad_(False)
    _give_patches(tower, family)
    return Encoder(tower.eval(), load_image_processor(source), family)


def _give_patches(tower: PreTrainedModel, family: VisionFamily) -> None:
    """Make the layer that is fed on hold patches, with at most one token (CLS) before them.

    LLaVA can drop one leading token and no registers, and knows no feature maps.
    """
    registers, layer = family.register_tokens(tower.config), family.feature_layer

    def patches(
        module: torch.nn.Module,  # noqa: ARG001
        inputs: tuple[torch.Tensor],  # noqa: ARG001
        output: Any,
    ) -> Any:
        hidden = list(output.hidden_states or ())
        if hidden:
            kept = hidden[layer]
            if family.feature_map:
                kept = kept.flatten(2).transpose(1, 2)
            else:
                kept = torch.cat([kept[:, :1], kept[:, 1 + registers :]], dim=1)
            hidden[layer] = kept
            output["hidden_states"] = tuple(hidden)
        return output

    if family.feature_map:
        tower.config.hidden_size = tower.config.hidden_sizes[-1]
    if registers or family.feature_map:
        tower.register_forward_hook(patches)


def assemble(
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    lora: LoraSettings | None,
    precision: Precision,
    seed: int,
    device: torch.device,
) -> Vlm:
    """Load both parts and join them.

    Args:
        vision_encoder: the encoder; stays frozen.
        llm: the LLM; gets LoRA, or stays frozen too.
        lora: the adapter; None leaves the projector as the only trainable part.
        precision: dtype of the frozen weights; trainable ones are always float32.
        seed: of projector and LoRA; equal shapes get equal initial weights.
        device: where the model lives.

    Raises:
        ModelError: if a part cannot be loaded or the two cannot be joined.
    """
    encoder = load_encoder(vision_encoder, precision, device)
    family = llm_family(llm.name, load_config(llm))
    tokenizer = load_tokenizer(llm)
    language_model = _load_weights(llm, AutoModelForCausalLM, precision, device)
    # Building, resizing and initialising all draw from the global generator: fork it.
    with torch.random.fork_rng(devices=[device] if device.type != "cpu" else []):
        torch.manual_seed(seed)
        image_id = _add_image_token(llm.name, tokenizer, language_model)
        model = _transplant(encoder, language_model, image_id, device)
        _keep_head(model, family, language_model.config)
        torch.manual_seed(seed)  # the same start whatever was drawn above
        projector = model.model.multi_modal_projector
        projector.linear_1.reset_parameters()
        projector.linear_2.reset_parameters()
        if lora is not None:
            model = _with_lora(model, lora, family.lora_targets)
    _keep_projector_in_fp32(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("multi_modal_projector" in name or "lora_" in name)
    vlm = Vlm(model, _processor(encoder, tokenizer), image_tokens=0)
    vlm.image_tokens = _checked_image_tokens(vision_encoder, llm, encoder, vlm, device)
    return vlm


def _load_weights(
    source: ModelSource,
    loader: type,
    precision: Precision,
    device: torch.device,
    key_mapping: dict[str, str] | None = None,
) -> PreTrainedModel:
    try:
        model, info = loader.from_pretrained(  # type: ignore[attr-defined]
            source.location,
            revision=source.revision or "main",
            trust_remote_code=source.trust_remote_code,
            use_safetensors=True,
            dtype=_DTYPES[precision],
            output_loading_info=True,
            key_mapping=key_mapping,
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
    return model.to(device)


def _add_image_token(
    name: str, tokenizer: PreTrainedTokenizerBase, language_model: PreTrainedModel
) -> int:
    """Make `<image>` one token of the LLM; its embedding row is never looked at.

    The new rows hold the mean of the others instead of random numbers: logits of text stay as
    they were, and the same LLM gives the same model every time.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    ids = tokenizer.encode(IMAGE_TOKEN, add_special_tokens=False)
    if len(ids) != 1:
        raise ModelError(
            name, f"{IMAGE_TOKEN!r} becomes the tokens {ids}; it must be a single one"
        )
    embeddings = language_model.get_input_embeddings()
    old = embeddings.weight.shape[0]
    if ids[0] >= old:
        language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (
                language_model.get_input_embeddings(),
                language_model.get_output_embeddings(),
            ):
                layer.weight[old:] = layer.weight[:old].mean(dim=0)
    return int(ids[0])


def _transplant(
    encoder: Encoder, language_model: PreTrainedModel, image_id: int, device: torch.device
) -> LlavaForConditionalGeneration:
    # Deep copies: LlavaConfig changes the configurations it is given in place, and the LLM would
    # then compute other logits.
    config = LlavaConfig(
        vision_config=copy.deepcopy(encoder.tower.config),
        text_config=copy.deepcopy(language_model.config),
        image_token_index=image_id,
        vision_feature_select_strategy=encoder.family.select_strategy,
        vision_feature_layer=encoder.family.feature_layer,
    )
    # LLaVA ties its head to `embed_tokens` by that name, which not every LLM has. The head is put
    # in below as it is, tied or not.
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = False
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = encoder.tower
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    model.model.multi_modal_projector.to_empty(device=device)
    model.tie_weights()
    model.generation_config = copy.deepcopy(language_model.generation_config)
    # An answer holds no picture: a placeholder in it would ask for features there are none of.
    model.generation_config.suppress_tokens = [
        *(model.generation_config.suppress_tokens or ()),
        image_id,
    ]
    left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if left:
        raise ModelError(
            language_model.config.name_or_path,
            f"{len(left)} weights have no values after joining, such as {left[0]!r}",
        )
    return model


def _keep_head(
    model: LlavaForConditionalGeneration, family: LlmFamily, config: PretrainedConfig
) -> None:
    """What an LLM does to its logits after the head, which LLaVA's own class drops silently."""
    cap = getattr(config, family.softcap) if family.softcap else None
    divisor = getattr(config, family.divide_logits) if family.divide_logits else None

    def cap_or_divide(
        module: torch.nn.Module,  # noqa: ARG001
        inputs: tuple[torch.Tensor],  # noqa: ARG001
        output: torch.Tensor,
    ) -> torch.Tensor:
        if divisor:
            output = output / divisor
        return torch.tanh(output / cap) * cap if cap else output

    if cap or divisor:
        model.lm_head.register_forward_hook(cap_or_divide)


def _with_lora(
    model: LlavaForConditionalGeneration, lora: LoraSettings, targets: tuple[str, ...]
) -> LlavaForConditionalGeneration:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # Only inside the LLM: CLIP's layers have the same names.
        target_modules=rf".*language_model\..*\.({'|'.join(targets)})",
    )
    model = inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def _keep_projector_in_fp32(model: LlavaForConditionalGeneration) -> None:
    """Train the projector in float32 between parts that may be bf16, as PEFT does with LoRA."""
    projector = model.model.multi_modal_projector.float()
    outside = model.get_input_embeddings().weight.dtype

    def enter(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:  # noqa: ARG001
        return (inputs[0].float(),)

    def leave(
        module: torch.nn.Module,  # noqa: ARG001
        inputs: tuple[torch.Tensor],  # noqa: ARG001
        output: torch.Tensor,
    ) -> torch.Tensor:
        return output.to(outside)

    if outside != torch.float32:
        projector.register_forward_pre_hook(enter)
        projector.register_forward_hook(leave)


def _processor(encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=encoder.image_processor,
        tokenizer=tokenizer,
        patch_size=encoder.family.patch_size(encoder.tower.config),
        vision_feature_select_strategy=encoder.family.select_strategy,
        num_additional_image_tokens=int(encoder.family.class_token),
        chat_template=chat_template(tokenizer),
    )


def _checked_image_tokens(
    vision_encoder: ModelSource, llm: ModelSource, encoder: Encoder, vlm: Vlm, device: torch.device
) -> int:
    """Features one image really gives, after checking that the processor announces as many."""
    from PIL import Image

    blank = Image.new("RGB", (64, 48))
    with torch.no_grad():
        features = encoder.features(encoder.pixels([blank]).to(device)).shape[1]
    ids = vlm.processor(text=IMAGE_TOKEN, images=blank, return_tensors="pt")["input_ids"]
    placeholders = int((ids == vlm.model.config.image_token_index).sum())
    if placeholders != features:
        raise ModelError(
            vision_encoder.name,
            f"gives {features} features for an image where {llm.name!r} is handed {placeholders} "
            "placeholders; the two must be equal",
        )
    return int(features)


def _reason(source: ModelSource, error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return (
        f"cannot be loaded from {source.location!r} ({first}); it must be an existing local "
        "folder or a hub id, with safetensors weights"
    )
