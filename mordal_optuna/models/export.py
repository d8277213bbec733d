"""Export of a candidate as a Hugging Face folder: merged weights, processor, model card."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from peft.tuners.lora import LoraLayer
from transformers import CLIPVisionModel, SiglipVisionModel

from mordal_optuna.errors import ModelError
from mordal_optuna.files.atomic import atomic_write
from mordal_optuna.models import llava
from mordal_optuna.models.llava import PatchLlavaConfig, PatchLlavaForConditionalGeneration
from mordal_optuna.models.prompts import TEMPLATE_ONLY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transformers import LlavaForConditionalGeneration

    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource


@dataclass(frozen=True)
class ModelCard:
    """Content of a candidate's model card.

    Attributes:
        vision_encoder: the encoder.
        llm: the LLM.
        samples: number of alignment samples that the candidate was trained on.
        data: name of the alignment set.
        data_digest: digest of the alignment set's content and order.
        seed: random seed of the run.
        recipe: settings of the alignment, by name.
        scores: lines such as "57.5 ± 2.1 % on ai2d (3,088 documents), measured with exactly these
            weights (1,536 samples)"; measured scores first, then projections.
        versions: versions of the libraries that trained the candidate, by name.
    """

    vision_encoder: ModelSource
    llm: ModelSource
    samples: int
    data: str
    data_digest: str
    seed: int
    recipe: Mapping[str, object]
    scores: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def export(vlm: Vlm, folder: Path, card: ModelCard) -> list[str]:
    """Write a candidate as a folder that transformers loads without this package.

    LoRA is merged into the live model, which cannot be trained any more afterwards. The folder is
    written whole or not at all.

    Args:
        vlm: the candidate.
        folder: new or empty folder.
        card: content of the folder's README.

    Returns:
        What the folder needs beyond `LlavaForConditionalGeneration`, a sentence each; empty if it
        needs nothing.

    Raises:
        ModelError: if the folder is not empty, or is a file.
    """
    check_folder(folder)
    merge(vlm)
    with atomic_write(folder) as temporary:
        needs = write(vlm, temporary)
        (temporary / "README.md").write_text(_render(card, needs), encoding="utf-8")
    return needs


def write(vlm: Vlm, folder: Path) -> list[str]:
    """Write a merged candidate's weights, configuration and processor.

    Args:
        vlm: the candidate, see `merge`.
        folder: new folder.

    Returns:
        What the folder needs beyond `LlavaForConditionalGeneration`, a sentence each; empty if it
        needs nothing.
    """
    needs = needs_of(vlm)
    setattr(vlm.model.config, TEMPLATE_ONLY, True)
    if needs:
        vlm.model.config.auto_map = {
            "AutoConfig": f"llava.{PatchLlavaConfig.__name__}",
            "AutoModelForImageTextToText": f"llava.{PatchLlavaForConditionalGeneration.__name__}",
        }
    folder.mkdir()
    if needs:
        shutil.copy(llava.__file__, folder / "llava.py")
    vlm.model.save_pretrained(folder, state_dict=None if needs else _published_names(vlm.model))
    vlm.processor.save_pretrained(folder)
    return needs


def _published_names(model: LlavaForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The weights, those of CLIP and SigLIP by the names of published LLaVA checkpoints.

    transformers 5 has lost the level `vision_model` of these towers. It reads both names, but
    saves the old ones only for a model that it has read. Others read the old ones alone: under
    transformers 4 the tower would keep random weights, with no more than a warning.

    Args:
        model: merged model of LLaVA's own class.
    """
    weights = model.state_dict()
    if not isinstance(model.model.vision_tower, CLIPVisionModel | SiglipVisionModel):
        return weights
    tower = "model.vision_tower."
    return {
        name.replace(tower, f"{tower}vision_model.", 1) if name.startswith(tower) else name: value
        for name, value in weights.items()
    }


def check_folder(folder: Path) -> None:
    """Check that an export can be written to a folder.

    Args:
        folder: folder to export to.

    Raises:
        ModelError: if the folder is not empty, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelError(str(folder), "is a file; an export needs a new or an empty folder")
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(str(folder), "is not empty; an export needs a new or an empty folder")


def merge(vlm: Vlm) -> None:
    """Merge LoRA into the LLM's weights, and store projector and head as LLaVA's class has them.

    The weights keep their dtype, so in bf16 the merged weights are rounded. A second call changes
    nothing.

    Args:
        vlm: the candidate; it cannot be trained any more afterwards.
    """
    model = vlm.model
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    projector = model.model.multi_modal_projector
    projector._forward_hooks.clear()
    projector._forward_pre_hooks.clear()
    projector.to(model.get_input_embeddings().weight.dtype)
    if "peft_config" in vars(model):
        del model.peft_config
    _tie_or_copy_head(model)


def merged_copy(vlm: Vlm) -> Vlm:
    """A copy of a candidate with LoRA merged, which leaves the live one to be trained further.

    Unmerging would not restore the weights in bf16, so all weights are copied, on the device where
    they are.

    Args:
        vlm: the candidate, whole in this process.
    """
    copied = replace(vlm, model=copy.deepcopy(vlm.model))
    merge(copied)
    return copied


def _tie_or_copy_head(model: LlavaForConditionalGeneration) -> None:
    """Tie the head as LLaVA does; if LLaVA cannot, give it a copy of the tied weights."""
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    if tied and hasattr(model.model.language_model, "embed_tokens"):
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    elif tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())


def needs_of(vlm: Vlm) -> list[str]:
    """What a candidate's export needs beyond `LlavaForConditionalGeneration`, a sentence each.

    Args:
        vlm: the candidate.
    """
    if not isinstance(vlm.model, PatchLlavaForConditionalGeneration):
        return []
    config, needs = vlm.model.config, []
    if config.register_tokens:
        needs.append(f"{config.register_tokens} register tokens of the encoder are dropped")
    if config.feature_map:
        needs.append("the encoder's feature map is read as a sequence")
    if config.vision_config.model_type == "timm_wrapper":
        needs.append("the encoder is a timm model, so timm must be installed")
    if config.logit_softcap:
        needs.append(f"logits are capped at {config.logit_softcap}")
    if config.logit_divisor != 1.0:
        needs.append(f"logits are divided by {config.logit_divisor}")
    return needs


def _render(card: ModelCard, needs: list[str]) -> str:
    # No escaping: the card is Markdown, not HTML.
    environment = Environment(
        loader=PackageLoader("mordal_optuna.models"),
        autoescape=False,
        undefined=StrictUndefined,
    )
    return environment.get_template("model_card.md.j2").render(card=card, needs=needs)
