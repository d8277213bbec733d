"""What an LLM is pretrained on: answers follow from the text, lessons come before the tasks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mordal_optuna.zoo.questions import CHOICE_PROMPT
from mordal_optuna.zoo.world.lessons import text
from mordal_optuna.zoo.world.pictures import COLORS, SHAPES
from mordal_optuna.zoo.world.samples import DESCRIBE, SKILLS

ALL = dict.fromkeys(SKILLS, 1.0)


def many(progress: float, count: int = 300) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [text(ALL, 4, progress, rng) for _ in range(count)]


def options(context: str) -> dict[str, str]:
    return dict(re.findall(r"^(?:<s>USER: )?([A-D])\. (.+)$", context, flags=re.MULTILINE))


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_segments_take_turns_of_context_and_answer(progress: float) -> None:
    for parts in many(progress, 100):
        assert len(parts) % 2 == 0
        assert all(parts)


def test_first_lessons_are_short_look_ups_and_the_last_texts_mostly_the_tasks() -> None:
    first, last = ("".join("".join(p) for p in many(progress)) for progress in (0.0, 1.0))
    assert "ASSISTANT" not in first.replace(f"{DESCRIBE} ASSISTANT:", "")
    assert last.count("Answer ") > 300


def test_marks_told_again_say_what_the_description_says() -> None:
    """Every word that is to be looked up stands in the mark of the word that is given."""
    told_again = 0
    for parts in many(0.0):
        if f"\n{DESCRIBE} ASSISTANT:" not in parts[0]:
            continue
        description = parts[0].removeprefix("<s>USER: ").split("\n")[0]
        marks = [set(mark.split()) for mark in description.split(";") if mark]
        for context, answer in zip(parts[::2], parts[1::2], strict=True):
            if not answer.endswith(";"):
                continue
            told_again += 1
            assert {context.split()[-1], *answer[:-1].split()} in marks
    assert told_again > 200


def test_letters_stand_for_the_options_asked_for() -> None:
    """Without a picture an option is named; with one, its kind is what the question asks for."""
    named = asked = 0
    for parts in many(0.3, 600):
        offered = options(parts[0])
        if not offered or "Context" in parts[0] or len(parts) < 4:
            continue
        for context, answer in zip(parts[::2], parts[1::2], strict=True):
            answer = answer.strip().removesuffix("</s>")
            if answer.endswith(";"):
                named += 1
                given = context.split()[-1]
                pair = (given, answer[:-1]) if len(given) == 1 and given in offered else None
                letter, word = pair or (answer[:-1], given)
                assert offered[letter] == word
            elif CHOICE_PROMPT in context and context.count("A. ") == (context is parts[0]):
                asked += 1
                if "What color is" in context:
                    assert offered[answer] in COLORS
                elif "hat shape" in context:
                    assert offered[answer] in SHAPES
    assert named > 100
    assert asked > 50
