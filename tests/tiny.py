"""Small checkpoints of every supported architecture, with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mordal_optuna.pool import ModelSource
from mordal_optuna.zoo.pretraining.encoders import pretrain_encoder
from mordal_optuna.zoo.pretraining.llms import pretrain_llm
from mordal_optuna.zoo.recipe import EncoderRecipe, LlmRecipe

if TYPE_CHECKING:
    from pathlib import Path

ENCODERS = ("clip", "siglip", "dinov2")
LLMS = ("llama", "qwen2", "mistral")


def encoder(folder: Path, family: Literal["clip", "siglip", "dinov2"]) -> ModelSource:
    """An encoder in the format of the hub: CLIP and SigLIP with their text towers."""
    recipe = EncoderRecipe(family, family, 32, 2, 32, 8, 0, 1, 1e-3)
    pretrain_encoder(recipe, folder / family, seed=1, advance=lambda _: None)
    return ModelSource(family, str(folder / family))


def llm(folder: Path, family: Literal["llama", "qwen2", "mistral"]) -> ModelSource:
    """An LLM with its tokenizer."""
    recipe = LlmRecipe(family, family, "questions", 32, 2, 256, 0, 1, 1e-3)
    pretrain_llm(recipe, folder / family, seed=1, advance=lambda _: None)
    return ModelSource(family, str(folder / family))
