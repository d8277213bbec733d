"""Pretraining texts for the LLMs: described scenes, in the layout of the default chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mordal_optuna.zoo.questions import LETTERS, ask, choose
from mordal_optuna.zoo.scenes import random_scene

if TYPE_CHECKING:
    import numpy as np

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"

# Share of texts with a multiple-choice question.
CHOICE_SHARE = 0.1
_QUESTIONS = {"questions": 4, "captions": 1}


def text(corpus: Literal["questions", "captions"], rng: np.random.Generator) -> list[str]:
    """One text, as alternating segments: context, answer, context, answer, ...

    A scene is told, repeated (copying is what teaches a small model to look things up), and
    asked about: four times in `questions`, once in `captions`. A tenth of the texts is one
    multiple-choice question instead.
    """
    scene = random_scene(rng)
    told = f"{BOS}USER: {scene.describe()}\n"
    if rng.random() < CHOICE_SHARE:
        choice = choose(scene, rng)
        return [f"{told}{choice.prompt()} ASSISTANT:", f" {LETTERS[choice.answer]}{EOS}"]
    segments = [f"{told}Describe. ASSISTANT:", f" {scene.describe()}{EOS}"]
    for _ in range(_QUESTIONS[corpus]):
        question = ask(scene, rng)
        segments += [f"USER: {question.text} ASSISTANT:", f" {question.answer}{EOS}"]
    return segments
