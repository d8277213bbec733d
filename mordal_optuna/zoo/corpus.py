"""Pretraining texts for the LLMs: described scenes, in the layout of the default chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mordal_optuna.zoo.questions import LETTERS, ask, choose
from mordal_optuna.zoo.scenes import random_scene

if TYPE_CHECKING:
    import numpy as np

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"

# Share of texts with a multiple-choice question.
CHOICE_SHARE = 0.15
_TURNS = 4


def text(corpus: Literal["questions", "captions"], rng: np.random.Generator) -> list[str]:
    """One text, as alternating segments: context, answer, context, answer, ...

    `questions` asks four short questions about a scene, or one multiple-choice question.
    `captions` has the scene repeated, and asks one question.
    """
    scene = random_scene(rng)
    told = f"{BOS}USER: {scene.describe()}\n"
    if rng.random() < CHOICE_SHARE:
        choice = choose(scene, rng)
        return [f"{told}{choice.prompt()} ASSISTANT:", f" {LETTERS[choice.answer]}{EOS}"]
    if corpus == "captions":
        question = ask(scene, rng)
        return [
            f"{told}Describe. ASSISTANT:",
            f" {scene.describe()}{EOS}",
            f"USER: {question.text} ASSISTANT:",
            f" {question.answer}{EOS}",
        ]
    segments = []
    for turn in range(_TURNS):
        question = ask(scene, rng)
        start = "USER: " if turn else told
        segments += [f"{start}{question.text} ASSISTANT:", f" {question.answer}{EOS}"]
    return segments
