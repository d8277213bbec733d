"""Questions with a right answer and wrong ones, asked openly or as multiple choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

# Last line of lmms-eval's ScienceQA prompt.
CHOICE_PROMPT = "Answer with the option's letter from the given choices directly."
LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        text: the question.
        answer: the right answer.
        others: wrong answers that can serve as further options.
    """

    text: str
    answer: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question.

    Attributes:
        text: the question.
        options: the options, in the order of their letters.
        answer: index of the right option.
    """

    text: str
    options: tuple[str, ...]
    answer: int

    def prompt(self) -> str:
        """The prompt of lmms-eval's `scienceqa_img`, without a context."""
        lines = [f"{LETTERS[n]}. {option}" for n, option in enumerate(self.options)]
        return "\n".join([self.text, *lines, CHOICE_PROMPT])


def question(text: str, answer: str, answers: Iterable[str]) -> Question:
    """A question whose wrong answers are all possible answers but the right one.

    Args:
        text: the question.
        answer: the right answer.
        answers: all possible answers; may include the right one.
    """
    return Question(text, answer, tuple(other for other in answers if other != answer))


def offer(asked: Question, rng: np.random.Generator, *, most: int = 4) -> Choice:
    """Turn a question into a multiple-choice question.

    Args:
        asked: the question.
        rng: random generator for the options and their order.
        most: largest number of options; fewer if there are fewer wrong answers.
    """
    count = min(most - 1, len(asked.others))
    wrong = rng.choice(asked.others, count, replace=False).tolist()
    place = int(rng.integers(count + 1))
    return Choice(asked.text, (*wrong[:place], asked.answer, *wrong[place:]), place)
