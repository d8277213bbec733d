"""Settings of the quick start's encoders and LLMs. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EncoderRecipe:
    """One vision encoder.

    Attributes:
        name: name of the encoder's folder.
        family: architecture and pretraining loss: clip (contrastive), siglip (sigmoid), dinov2
            (masked patches, no language).
        width: hidden size.
        layers: number of transformer layers.
        image_size: side of the input image in pixels.
        patch_size: side of a patch in pixels.
        steps: number of optimiser steps.
        batch_size: scenes per step.
        learning_rate: peak learning rate; linear warm-up and cosine decay.
    """

    name: str
    family: Literal["clip", "siglip", "dinov2"]
    width: int
    layers: int
    image_size: int
    patch_size: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class LlmRecipe:
    """One LLM.

    Attributes:
        name: name of the LLM's folder.
        family: architecture.
        corpus: `questions` (described scenes with questions and answers) or `captions` (mostly
            descriptions, few questions).
        width: hidden size.
        layers: number of transformer layers.
        vocabulary: size of the byte-level BPE vocabulary.
        steps: number of optimiser steps.
        batch_size: texts per step.
        learning_rate: peak learning rate; linear warm-up and cosine decay.
    """

    name: str
    family: Literal["llama", "qwen2", "mistral"]
    corpus: Literal["questions", "captions"]
    width: int
    layers: int
    vocabulary: int
    steps: int
    batch_size: int
    learning_rate: float
