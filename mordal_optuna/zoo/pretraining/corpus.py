"""The quick start's pretraining texts: described scenes, in the layout of the chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mordal_optuna.zoo.drawing.board import random_scene
from mordal_optuna.zoo.drawing.board_questions import CHOICE_SHARE, ask, choose
from mordal_optuna.zoo.drawing.multiple_choice import LETTERS
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS

if TYPE_CHECKING:
    import numpy as np

# Number of questions about a scene, by corpus.
_QUESTIONS = {"questions": 4, "captions": 1}


def text(corpus: Literal["questions", "captions"], rng: np.random.Generator) -> list[str]:
    """One text, as a list of alternating segments: context, answer, context, answer, ...

    The text describes a scene, repeats the description (copying teaches a small model to look
    things up), and asks about it: four times in `questions`, once in `captions`. A tenth of the
    texts has one multiple-choice question instead.
    """
    scene = random_scene(rng)
    start = f"{BOS}USER: {scene.describe()}\n"
    if rng.random() < CHOICE_SHARE:
        choice = choose(scene, rng)
        return [f"{start}{choice.prompt()} ASSISTANT:", f" {LETTERS[choice.answer]}{EOS}"]
    segments = [f"{start}Describe. ASSISTANT:", f" {scene.describe()}{EOS}"]
    for _ in range(_QUESTIONS[corpus]):
        question = ask(scene, rng)
        segments += [f"USER: {question.text} ASSISTANT:", f" {question.answer}{EOS}"]
    return segments
