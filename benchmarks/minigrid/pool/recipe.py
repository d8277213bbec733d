"""Settings of the minigrid's encoders, LLMs and alignment set. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Skill = Literal["scenes", "photos", "charts", "documents", "science", "diagrams", "mixed"]
Kind = Literal["scenes", "photos", "charts", "documents", "diagrams"]
Skills = tuple[tuple[Skill, float], ...]
Kinds = tuple[tuple[Kind, float], ...]


@dataclass(frozen=True)
class MinigridLlm:
    """One LLM.

    Attributes:
        name: name of the LLM's folder.
        family: model type in transformers.
        mixture: relative shares of the skills in the pretraining texts.
        width: hidden size.
        layers: number of transformer layers.
        vocabulary: size of the byte-level BPE vocabulary.
        steps: optimiser steps of the first schedule, on lessons and prompts of the tasks.
        choosing: optimiser steps of the second schedule, on multiple choice; may be 0.
        batch_size: texts per step.
        learning_rate: peak learning rate of the first schedule; linear warm-up and cosine decay.
        turns: largest number of questions per text.
    """

    name: str
    family: Literal["llama", "qwen3", "mistral", "gemma", "olmo2", "gpt_neox"]
    mixture: Skills
    width: int
    layers: int
    vocabulary: int
    steps: int
    choosing: int
    batch_size: int
    learning_rate: float
    turns: int = 5


@dataclass(frozen=True)
class MinigridEncoder:
    """One vision encoder.

    Attributes:
        name: name of the encoder's folder.
        family: model type in transformers.
        target: pretraining loss, see `pool.encoders`.
        mixture: relative shares of the kinds of pictures.
        width: hidden size; for `convnext` of the last stage.
        layers: number of transformer layers; for `convnext` blocks of the last stage.
        image_size: side of the input image in pixels.
        patch_size: side in pixels of the square that one feature covers.
        steps: number of optimiser steps.
        batch_size: pictures per step.
        learning_rate: peak learning rate; linear warm-up and cosine decay.
    """

    name: str
    family: Literal["clip", "siglip", "dinov2", "vit", "aimv2", "internvl", "convnext"]
    target: Literal["contrast", "sigmoid", "masked", "name"]
    mixture: Kinds
    width: int
    layers: int
    image_size: int
    patch_size: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class MinigridAlignment:
    """The alignment set.

    Attributes:
        mixture: relative shares of the skills.
        samples: number of conversations.
        turns: largest number of questions per conversation.
        telling: share of conversations that begin with a description of the pictures, 0..1.
    """

    mixture: Skills
    samples: int
    turns: int
    telling: float
