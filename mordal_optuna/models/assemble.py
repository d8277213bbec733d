"""Join a vision encoder and an LLM to one LLaVA-style model.

The parts are loaded once, in the target dtype, and transplanted into a skeleton built on the
meta device, so no second copy of the LLM is ever in memory. Everything that could silently be
wrong (missing weights, image placeholders that do not match the features) is checked here, before
any training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import (
    AutoModelForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mordal_optuna.errors import ModelError
from mordal_optuna.models.families import LlmFamily, llm_family
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
from mordal_optuna.models.template import IMAGE_TOKEN, chat_template
from mordal_optuna.models.towers import Encoder, load_encoder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from mordal_optuna.config import LoraSettings
    from mordal_optuna.pool import ModelSource


@dataclass
class Vlm:
    """A live candidate.

    Attributes:
        model: LLaVA with LoRA injected (or without), encoder frozen.
        processor: tokenizer, image processor and chat template.
        image_tokens: placeholders that one image takes in the token sequence.
        encoder: the vision encoder inside the model.
        llm_family: what the LLM's architecture needs.
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
    """Load both parts and join them.

    Args:
        vision_encoder: the encoder; stays frozen.
        llm: the LLM; gets LoRA, or stays frozen too.
        lora: the adapter; None leaves the projector as the only trainable part.
        precision: dtype of the frozen weights; trainable ones are always float32.
        seed: of projector and LoRA; equal shapes get equal initial weights.
        device: where the model lives.
        attention: how the LLM computes attention.

    Raises:
        ModelError: if a part cannot be loaded or the two cannot be joined.
    """
    encoder = load_encoder(vision_encoder, precision, device)
    llm_family(llm.name, load_config(llm))  # refused before its weights are read
    language_model = load_weights(
        llm, AutoModelForCausalLM, precision, device, attention=attention
    )
    return join(
        encoder,
        language_model,
        load_tokenizer(llm),
        names=(vision_encoder.name, llm.name),
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
) -> Vlm:
    """Join two parts that are in memory; neither can be used alone afterwards.

    Args:
        encoder: stays frozen.
        language_model: the LLM with its head; gets LoRA, or stays frozen too.
        tokenizer: the LLM's; gets the image token.
        names: of both, for errors.
        lora: the adapter; None leaves the projector as the only trainable part.
        seed: of projector and LoRA; equal shapes get equal initial weights.
        device: where both live.

    Raises:
        ModelError: if the two cannot be joined.
    """
    image_id = _add_image_token(names[1], tokenizer, language_model)
    model = join_models(
        encoder, language_model, image_id, name=names[1], lora=lora, seed=seed, device=device
    )
    family = llm_family(names[1], model.config.text_config)
    vlm = Vlm(model, _processor(encoder, tokenizer), 0, encoder, family)
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
    """The model of two parts, without its processor; projector and LoRA alone are trained.

    Args:
        encoder: stays frozen.
        language_model: the LLM with its head.
        image_id: the token that stands for a feature of an image.
        name: of the LLM, for errors.
        lora: the adapter; None leaves the projector as the only trainable part.
        seed: of projector and LoRA.
        device: where both live.
    """
    family = llm_family(name, language_model.config)
    # Building and initialising draw from the global generator: fork it.
    with torch.random.fork_rng(devices=[device] if device.type != "cpu" else []):
        model = _transplant(encoder, family, language_model, image_id, device)
        torch.manual_seed(seed)  # the same start whatever was drawn above
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
        place = language_model.device
        # Rows are drawn from the global generator, then overwritten: fork it.
        with torch.random.fork_rng(devices=[place] if place.type != "cpu" else []):
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
    needs = beyond_llava(encoder, family, language_model.config)
    # Deep copies: LlavaConfig changes the configurations it is given in place, and the LLM would
    # then compute other logits.
    config = (PatchLlavaConfig if needs else LlavaConfig)(
        vision_config=copy.deepcopy(encoder.tower.config),
        text_config=copy.deepcopy(language_model.config),
        image_token_index=image_id,
        vision_feature_select_strategy=encoder.family.select_strategy,
        vision_feature_layer=encoder.family.feature_layer,
        **needs,
    )
    # LLaVA ties its head to `embed_tokens` by that name, which not every LLM has. The head is put
    # in below as it is, tied or not.
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


def beyond_llava(
    encoder: Encoder, family: LlmFamily, config: PretrainedConfig
) -> dict[str, float | bool]:
    """What a pair needs beyond LLaVA's own class: fields of `PatchLlavaConfig`; may be empty."""
    softcap = (getattr(config, family.softcap) if family.softcap else None) or 0.0
    divisor = getattr(config, family.divide_logits) if family.divide_logits else 1.0
    wanted = {
        "register_tokens": encoder.family.register_tokens(encoder.tower.config),
        "feature_map": encoder.family.feature_map,
        "logit_softcap": softcap,
        "logit_divisor": divisor,
    }
    plain = {"register_tokens": 0, "feature_map": False, "logit_softcap": 0.0}
    plain["logit_divisor"] = 1.0
    return wanted if wanted != plain else {}


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
        patch_size=encoder.family.patch_size(encoder.tower),
        vision_feature_select_strategy=encoder.family.select_strategy,
        num_additional_image_tokens=int(encoder.family.class_token),
        chat_template=chat_template(tokenizer),
    )


def _checked_image_tokens(
    names: tuple[str, str], encoder: Encoder, vlm: Vlm, device: torch.device
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
            names[0],
            f"gives {features} features for an image where {names[1]!r} is handed {placeholders} "
            "placeholders; the two must be equal",
        )
    return int(features)
