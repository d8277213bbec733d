"""The pool of the ground-truth grid: seven encoders and seven LLMs, as varied as the paper's.

Encoders differ in target, in the kinds of pictures they saw, in size and in length of pretraining;
LLMs in architecture, skills, size and length. No choice was made by how a search does on it.
"""

from __future__ import annotations

from mordal_optuna.zoo.world.recipe import (
    Kind,
    Skill,
    WorldAlignment,
    WorldEncoder,
    WorldLlm,
    WorldRecipe,
)

Kinds = tuple[tuple[Kind, float], ...]
Skills = tuple[tuple[Skill, float], ...]

_BROAD: Kinds = (
    ("scenes", 1.0),
    ("photos", 0.5),
    ("charts", 1.0),
    ("documents", 1.0),
    ("diagrams", 1.0),
)
# Web pictures with captions show things more than pages.
_THINGS: Kinds = (
    ("scenes", 3.0),
    ("photos", 1.5),
    ("charts", 1.0),
    ("documents", 0.5),
    ("diagrams", 0.5),
)
_LETTERS: Kinds = (
    ("scenes", 0.3),
    ("photos", 0.1),
    ("charts", 1.0),
    ("documents", 4.0),
    ("diagrams", 0.7),
)
_FIGURES: Kinds = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("charts", 2.0),
    ("documents", 0.3),
    ("diagrams", 2.0),
)

_GENERAL: Skills = (
    ("scenes", 1.5),
    ("photos", 0.3),
    ("charts", 1.0),
    ("documents", 1.0),
    ("science", 1.0),
    ("diagrams", 1.0),
    ("mixed", 1.0),
)
# As `_GENERAL`, with more to choose from: choosing is the hardest to learn.
_SCHOOL: Skills = (
    ("scenes", 1.5),
    ("photos", 0.3),
    ("charts", 1.0),
    ("documents", 1.0),
    ("science", 1.5),
    ("diagrams", 1.5),
    ("mixed", 1.5),
)
_RELATIONS: Skills = (
    ("scenes", 4.0),
    ("photos", 0.5),
    ("charts", 0.5),
    ("documents", 0.3),
    ("science", 1.5),
    ("diagrams", 0.5),
    ("mixed", 1.0),
)
_NUMBERS: Skills = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("charts", 4.0),
    ("documents", 1.0),
    ("diagrams", 0.5),
    ("mixed", 0.5),
)
_READING: Skills = (
    ("scenes", 0.5),
    ("photos", 0.5),
    ("charts", 1.0),
    ("documents", 3.0),
    ("diagrams", 0.5),
)
_CHOICES: Skills = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("science", 2.0),
    ("diagrams", 2.0),
    ("mixed", 1.5),
)

MINIGRID = WorldRecipe(
    name="minigrid",
    seed=6100,
    encoders=(
        WorldEncoder("clip-m", "clip", "contrast", _THINGS, 128, 4, 72, 12, 450, 48, 1e-2),
        WorldEncoder("siglip-m", "siglip", "sigmoid", _BROAD, 128, 3, 72, 12, 450, 48, 1e-2),
        WorldEncoder("dinov2-m", "dinov2", "masked", _BROAD, 128, 4, 72, 12, 300, 48, 3e-3),
        WorldEncoder("vit-read", "vit", "name", _LETTERS, 96, 4, 72, 12, 400, 48, 1e-2),
        WorldEncoder("internvit-fig", "internvl", "name", _FIGURES, 96, 4, 80, 16, 450, 48, 1e-2),
        WorldEncoder("convnext-s", "convnext", "name", _BROAD, 128, 2, 80, 16, 300, 48, 5e-3),
        WorldEncoder("aimv2-xs", "aimv2", "sigmoid", _BROAD, 64, 3, 64, 16, 150, 32, 1e-2),
    ),
    llms=(
        WorldLlm("llama-m", "llama", _GENERAL, 128, 4, 512, 880, 0, 16, 3e-3, 8),
        WorldLlm("olmo2-mc", "olmo2", _CHOICES, 128, 4, 512, 880, 900, 16, 3e-3, 8),
        WorldLlm("qwen3-rel", "qwen3", _RELATIONS, 128, 4, 512, 720, 720, 16, 3e-3, 8),
        WorldLlm("mistral-num", "mistral", _NUMBERS, 128, 3, 512, 720, 0, 16, 3e-3, 8),
        WorldLlm("gemma-read", "gemma", _READING, 96, 4, 512, 720, 0, 16, 3e-3, 8),
        WorldLlm("olmo2-s", "olmo2", _SCHOOL, 96, 4, 512, 640, 900, 16, 3e-3, 8),
        WorldLlm("neox-xs", "gpt_neox", _GENERAL, 64, 3, 512, 300, 0, 16, 3e-3, 8),
    ),
    alignment=WorldAlignment(_GENERAL, samples=16384, turns=4, telling=1.0),
    documents=300,
)
