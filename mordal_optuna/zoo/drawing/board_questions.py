"""The quick start's questions about scenes, used in pretraining, alignment and its two tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.board import COLORS, MOST_THINGS, NUMBERS, PLACES, SHAPES
from mordal_optuna.zoo.drawing.multiple_choice import Choice, Question, question

if TYPE_CHECKING:
    import numpy as np

    from mordal_optuna.zoo.drawing.board import Scene

# Share of pretraining texts and of alignment conversations with a multiple-choice question.
CHOICE_SHARE = 0.1


def ask(scene: Scene, rng: np.random.Generator) -> Question:
    """A question about a scene: colour, shape, place or number."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    kind = int(rng.integers(9))
    if kind < 2:
        return question(f"What color is the {thing.shape}?", thing.color, COLORS)
    if kind < 4:
        return question(f"What shape is {thing.color}?", thing.shape, SHAPES)
    if kind < 6:
        return question(f"Where is the {thing.shape}?", thing.place, PLACES)
    if kind < 8:
        return question(f"What color is {thing.place}?", thing.color, COLORS)
    count = len(scene.things)
    return question("How many things are there?", NUMBERS[count], NUMBERS[1 : MOST_THINGS + 1])


def choose(scene: Scene, rng: np.random.Generator) -> Choice:
    """A multiple-choice question about a scene, with two or three options."""
    asked = ask(scene, rng)
    wanted = min(int(rng.integers(1, 3)), len(asked.others))
    wrong = rng.choice(asked.others, wanted, replace=False).tolist()
    place = int(rng.integers(len(wrong) + 1))
    options = [*wrong[:place], asked.answer, *wrong[place:]]
    return Choice(asked.text, tuple(options), place)
