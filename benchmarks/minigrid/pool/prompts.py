"""The prompts in which lmms-eval asks the questions of the seven benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT, LETTERS

if TYPE_CHECKING:
    from mordal_optuna.zoo.drawing.multiple_choice import Choice

# lmms-eval's wording.
SHORT_PROMPT = "Answer the question using a single word or phrase."
WORD_PROMPT = "Answer the question with a single word."
DOUBT_PROMPT = "When the provided information is insufficient, respond with 'Unanswerable'."


def short_prompt(text: str) -> str:
    """Prompt of `gqa` and `docvqa_val`."""
    return f"{text}\n{SHORT_PROMPT}"


def doubt_prompt(text: str) -> str:
    """Prompt of `vizwiz_vqa_val`."""
    return f"{text.capitalize()}\n{DOUBT_PROMPT}\n{SHORT_PROMPT}"


def word_prompt(text: str) -> str:
    """Prompt of `chartqa`."""
    return f"{text}\n{WORD_PROMPT}"


def choice_prompt(choice: Choice, context: str = "") -> str:
    """Prompt of `scienceqa_img` and `ai2d`."""
    return f"Context: {context}\n{choice.prompt()}" if context else choice.prompt()


def mixed_choice_prompt(choice: Choice) -> str:
    """Prompt of a multiple-choice question of `mmmu_val`."""
    lines = [
        f"{letter}. {option}" for letter, option in zip(LETTERS, choice.options, strict=False)
    ]
    return "\n".join([choice.text, *lines, "", CHOICE_PROMPT])


def mixed_open_prompt(text: str) -> str:
    """Prompt of an open question of `mmmu_val`."""
    return f"{text}\n\n{SHORT_PROMPT}"
