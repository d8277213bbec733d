"""Questions about scenes, in words shared by pretraining, alignment and the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.zoo.scenes import COLORS, MOST_THINGS, NUMBERS, PLACES, SHAPES

if TYPE_CHECKING:
    import numpy as np

    from mordal_optuna.zoo.scenes import Scene

# Upstream's ScienceQA prompt ends with this line.
CHOICE_PROMPT = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question with its answer and the wrong answers that could stand beside it."""

    text: str
    answer: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question.

    Attributes:
        text: the question.
        options: what to choose from.
        answer: index of the right one.
    """

    text: str
    options: tuple[str, ...]
    answer: int

    def prompt(self) -> str:
        """As upstream's `scienceqa_img` asks it, without a context."""
        lines = [f"{LETTERS[n]}. {option}" for n, option in enumerate(self.options)]
        return "\n".join([self.text, *lines, CHOICE_PROMPT])


def ask(scene: Scene, rng: np.random.Generator) -> Question:
    """A question about a scene: colour, shape, place or number."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    kind = int(rng.integers(9))
    if kind < 2:
        return _question(f"What color is the {thing.shape}?", thing.color, tuple(COLORS))
    if kind < 4:
        return _question(f"What shape is {thing.color}?", thing.shape, SHAPES)
    if kind < 6:
        return _question(f"Where is the {thing.shape}?", thing.place, PLACES)
    if kind < 8:
        return _question(f"What color is {thing.place}?", thing.color, tuple(COLORS))
    count = len(scene.things)
    return _question("How many things are there?", NUMBERS[count], NUMBERS[1 : MOST_THINGS + 1])


def choose(scene: Scene, rng: np.random.Generator) -> Choice:
    """The same as a multiple-choice question with two or three options."""
    question = ask(scene, rng)
    wanted = min(int(rng.integers(1, 3)), len(question.others))
    wrong = rng.choice(question.others, wanted, replace=False).tolist()
    place = int(rng.integers(len(wrong) + 1))
    options = [*wrong[:place], question.answer, *wrong[place:]]
    return Choice(question.text, tuple(options), place)


def _question(text: str, answer: str, answers: tuple[str, ...]) -> Question:
    return Question(text, answer, tuple(other for other in answers if other != answer))
