"""Join a vision encoder and an LLM to one LLaVA-style model.

Both are loaded once, in the target dtype, and put into a LLaVA model that is built on the meta
device, so that the LLM is never in memory twice. Mistakes that would otherwise go unnoticed
(missing weights, a wrong number of image placeholders) are checked here, before any training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mordal_optuna.errors import ModelError
from mordal_optuna.models.families import LlmFamily, VisionFamily, llm_family
from mordal_optuna.models.llava import (
    PatchLlavaConfig,
    PatchLlavaForConditionalGeneration,
    keep_head,
)
from mordal_optuna.models.loading import (
    Attention,
    Precision,
    load_config,
    load_tokenizer,
    load_weights,
)
from mordal_optuna.models.probe import check_chat
from mordal_optuna.models.template import IMAGE_TOKEN, chat_template
from mordal_optuna.models.towers import Encoder, load_encoder
from mordal_optuna.models.turns import stop_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from mordal_optuna.config import LoraSettings
    from mordal_optuna.pool import ModelSource, TemplateOptions


@dataclass
class Vlm:
    """A live candidate.

    Attributes:
        model: LLaVA model with a frozen encoder, with or without LoRA.
        processor: tokenizer, image processor and chat template.
        image_tokens: number of placeholders of one image in the token sequence.
        encoder: the vision encoder inside the model.
        llm_family: description of the LLM's architecture.
    """

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor
    image_tokens: int
    encoder: Encoder
    llm_family: LlmFamily

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Projector and LoRA parameters by name, in a fixed order."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}


def assemble(
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    lora: LoraSettings | None,
    precision: Precision,
    seed: int,
    device: torch.device,
    attention: Attention = "auto",
) -> Vlm:
    """Load encoder and LLM and join them.

    Args:
        vision_encoder: the encoder; stays frozen.
        llm: the LLM; trained by LoRA, or frozen.
        lora: settings of LoRA; None trains the projector only.
        precision: `fp32` or `bf16`, the dtype of frozen weights; trained ones are float32.
        seed: random seed of projector and LoRA; the same shapes get the same initial weights.
        device: torch device for the model.
        attention: implementation of the LLM's attention, see `Attention`.

    Raises:
        ModelError: if a model cannot be loaded, or the two cannot be joined.
    """
    llm_family(llm.name, load_config(llm))  # this and the next raise before weights are read
    check_chat(llm)
    encoder = load_encoder(vision_encoder, precision, device)
    language_model = load_weights(
        llm, AutoModelForCausalLM, precision, device, attention=attention
    )
    return join(
        encoder,
        language_model,
        load_tokenizer(llm),
        names=(vision_encoder.name, llm.name),
        template=llm.template,
        lora=lora,
        seed=seed,
        device=device,
    )


def join(
    encoder: Encoder,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    names: tuple[str, str],
    lora: LoraSettings | None,
    seed: int,
    device: torch.device,
    template: TemplateOptions | None = None,
) -> Vlm:
    """Join an encoder and an LLM in memory; neither can be used separately afterwards.

    Args:
        encoder: the encoder; stays frozen.
        language_model: the LLM with its head; trained by LoRA, or frozen.
        tokenizer: tokenizer of the LLM; the image token is added to it.
        names: names of encoder and LLM, for errors.
        lora: settings of LoRA; None trains the projector only.
        seed: random seed of projector and LoRA; the same shapes get the same initial weights.
        device: torch device of both.
        template: how the LLM's chat template is used; None for no options.

    Raises:
        ModelError: if the two cannot be joined.
    """
    image_id = _add_image_token(names[1], tokenizer, language_model)
    model = join_models(
        encoder, language_model, image_id, name=names[1], lora=lora, seed=seed, device=device
    )
    family = llm_family(names[1], model.config.text_config)
    processor = _processor(encoder, tokenizer, chat_template(tokenizer, template, name=names[1]))
    model.generation_config = _generation(processor, language_model, image_id)
    vlm = Vlm(model, processor, 0, encoder, family)
    vlm.image_tokens = _checked_image_tokens(names, encoder, vlm, device)
    return vlm


def join_models(
    encoder: Encoder,
    language_model: PreTrainedModel,
    image_id: int,
    *,
    name: str,
    lora: LoraSettings | None,
    seed: int,
    device: torch.device,
) -> LlavaForConditionalGeneration:
    """Join an encoder and an LLM to a model without a processor.

    Args:
        encoder: the encoder; stays frozen.
        language_model: the LLM with its head.
        image_id: id of the placeholder token of image features.
        name: name of the LLM, for errors.
        lora: settings of LoRA; None trains the projector only.
        seed: random seed of projector and LoRA.
        device: torch device of both.

    Returns:
        The model, in which projector and LoRA alone are trainable.

    Raises:
        ModelError: if the two cannot be joined.
    """
    family = llm_family(name, language_model.config)
    # Building and initialising use the global random generator, whose state must not change.
    with torch.random.fork_rng(devices=[device] if device.type != "cpu" else []):
        model = _transplant(encoder, family, language_model, image_id, device)
        torch.manual_seed(seed)  # what was drawn above depends on the models
        projector = model.model.multi_modal_projector
        projector.linear_1.reset_parameters()
        projector.linear_2.reset_parameters()
        if lora is not None:
            model = _with_lora(model, lora, family.lora_targets)
    _keep_projector_in_fp32(model)
    for parameter_name, parameter in model.named_parameters():
        trained = "multi_modal_projector" in parameter_name or "lora_" in parameter_name
        parameter.requires_grad_(trained)
    return model


def _add_image_token(
    name: str, tokenizer: PreTrainedTokenizerBase, language_model: PreTrainedModel
) -> int:
    """Add `<image>` as one token of the LLM; its embedding is never used.

    New rows of the embeddings are set to the mean of the others instead of random numbers, so that
    the same LLM always gives the same model. Logits of text tokens do not change.
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
        device = language_model.device
        # Resizing uses the global random generator, whose state must not change.
        with torch.random.fork_rng(devices=[device] if device.type != "cpu" else []):
            language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (
                language_model.get_input_embeddings(),
                language_model.get_output_embeddings(),
            ):
                layer.weight[old:] = layer.weight[:old].mean(dim=0)
    return int(ids[0])


def _transplant(
    encoder: Encoder,
    family: LlmFamily,
    language_model: PreTrainedModel,
    image_id: int,
    device: torch.device,
) -> LlavaForConditionalGeneration:
    needs = beyond_llava(encoder.family, encoder.tower.config, family, language_model.config)
    # Deep copies: LlavaConfig changes the given configurations in place, and the LLM would then
    # compute other logits.
    config = (PatchLlavaConfig if needs else LlavaConfig)(
        vision_config=copy.deepcopy(encoder.tower.config),
        text_config=copy.deepcopy(language_model.config),
        image_token_index=image_id,
        vision_feature_select_strategy=encoder.family.select_strategy,
        vision_feature_layer=encoder.family.feature_layer,
        **needs,
    )
    # LLaVA ties its head to a module named `embed_tokens`, which not every LLM has. The LLM's own
    # head, tied or not, is put in below.
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = False
    with torch.device("meta"):
        model = (PatchLlavaForConditionalGeneration if needs else LlavaForConditionalGeneration)(
            config
        )
    model.model.vision_tower = encoder.tower
    model.model.language_model = language_model.base_model
    model.lm_head = language_model.get_output_embeddings()
    if needs:
        keep_head(model.lm_head, softcap=config.logit_softcap, divisor=config.logit_divisor)
    model.model.multi_modal_projector.to_empty(device=device)
    model.tie_weights()
    missing = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if missing:
        raise ModelError(
            language_model.config.name_or_path,
            f"{len(missing)} weights have no values after joining, such as {missing[0]!r}",
        )
    return model


def beyond_llava(
    vision: VisionFamily,
    vision_config: PretrainedConfig,
    family: LlmFamily,
    config: PretrainedConfig,
) -> dict[str, float | bool]:
    """Fields of `PatchLlavaConfig` that a pair needs; empty if LLaVA's own class suffices.

    Args:
        vision: description of the encoder's architecture.
        vision_config: configuration of the encoder.
        family: description of the LLM's architecture.
        config: configuration of the LLM.
    """
    wanted = {**encoder_fields(vision, vision_config), **head_fields(family, config)}
    return {} if is_plain(wanted) else wanted


def encoder_fields(family: VisionFamily, config: PretrainedConfig) -> dict[str, float | bool]:
    """Fields of `PatchLlavaConfig` about an encoder.

    Args:
        family: description of the encoder's architecture.
        config: configuration of the encoder.
    """
    return {
        "register_tokens": family.register_tokens(config),
        "feature_map": family.feature_map,
    }


def head_fields(family: LlmFamily, config: PretrainedConfig) -> dict[str, float | bool]:
    """Fields of `PatchLlavaConfig` about an LLM's head.

    Args:
        family: description of the LLM's architecture.
        config: configuration of the LLM.
    """
    softcap = (getattr(config, family.softcap) if family.softcap else None) or 0.0
    divisor = getattr(config, family.divide_logits) if family.divide_logits else 1.0
    return {"logit_softcap": softcap, "logit_divisor": divisor}


def is_plain(fields: Mapping[str, float | bool]) -> bool:
    """Whether LLaVA's own class suffices for fields of an encoder or of a head."""
    return all(value == (1.0 if name == "logit_divisor" else 0) for name, value in fields.items())


def _with_lora(
    model: LlavaForConditionalGeneration, lora: LoraSettings, targets: tuple[str, ...]
) -> LlavaForConditionalGeneration:
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # Restricted to the LLM, since CLIP's layers have the same names.
        target_modules=rf".*language_model\..*\.({'|'.join(targets)})",
    )
    model = inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model


def _keep_projector_in_fp32(model: LlavaForConditionalGeneration) -> None:
    """Keep the projector in float32 between models that may be bf16, as PEFT does with LoRA."""
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


def _generation(
    processor: LlavaProcessor, language_model: PreTrainedModel, image_id: int
) -> GenerationConfig:
    """How answers are generated: greedily, up to a token that ends them.

    The LLM's own settings, such as a repetition penalty, would change the scores.
    """
    tokenizer = processor.tokenizer
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop_tokens(processor, language_model.generation_config),
        pad_token_id=tokenizer.pad_token_id,
        # An answer must not contain image placeholders, for which there are no features.
        suppress_tokens=[image_id],
    )


def _processor(
    encoder: Encoder, tokenizer: PreTrainedTokenizerBase, template: str
) -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=encoder.image_processor,
        tokenizer=tokenizer,
        patch_size=encoder.family.patch_size(encoder.tower),
        vision_feature_select_strategy=encoder.family.select_strategy,
        num_additional_image_tokens=int(encoder.family.class_token),
        chat_template=template,
    )


def _checked_image_tokens(
    names: tuple[str, str], encoder: Encoder, vlm: Vlm, device: torch.device
) -> int:
    """Number of features of one image, checked against the processor's number of placeholders."""
    from PIL import Image

    blank = Image.new("RGB", (64, 48))
    with torch.no_grad():
        features = encoder.features(encoder.pixels([blank]).to(device)).shape[1]
    ids = vlm.processor(text=IMAGE_TOKEN, images=blank, return_tensors="pt")["input_ids"]
    placeholders = int((ids == vlm.model.config.image_token_index).sum())
    if placeholders != features:
        raise ModelError(
            names[0],
            f"gives {features} features for an image, and {names[1]!r} gets {placeholders} "
            "placeholders; the two must be equal",
        )
    return int(features)
