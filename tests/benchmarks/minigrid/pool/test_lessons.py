"""What an LLM is pretrained on: answers follow from the text, lessons come before the tasks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.pool.lessons import SHOWN_START, choosing, meant, segments, text
from benchmarks.minigrid.pool.samples import CHOICE_SKILLS, DESCRIBE, SKILLS, random_sample
from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT
from mordal_optuna.zoo.drawing.pictures import COLORS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.minigrid.pool.recipe import Skill

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
        if description.startswith(SHOWN_START):
            continue
        marks = [set(mark.split()) for mark in description.split(";") if mark]
        for context, answer in zip(parts[::2], parts[1::2], strict=True):
            if not answer.endswith(";"):
                continue
            told_again += 1
            assert {context.split()[-1], *answer[:-1].split()} in marks
    assert told_again > 200


@pytest.mark.parametrize("texts", [text, choosing])
def test_half_of_the_pictures_are_shown(texts: Callable[..., list[str]]) -> None:
    rng = np.random.default_rng(0)
    starts = [texts(ALL, 4, 1.0, rng)[0] for _ in range(400)]
    pictured = [start for start in starts if ";" in start or SHOWN_START in start]
    share = sum(SHOWN_START in start for start in pictured) / len(pictured)
    assert share == pytest.approx(0.5, abs=0.08)


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


def second(progress: float, count: int = 300) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [choosing(ALL, 4, progress, rng) for _ in range(count)]


def test_stated_questions_name_the_option_their_letter_stands_for() -> None:
    """They become rarer; they ask as the tasks ask."""
    counts = []
    for progress in (0.0, 1.0):
        stated = [parts for parts in second(progress) if "Which is " in parts[0]]
        counts.append(len(stated))
        for parts in stated:
            for context, answer in zip(parts[::2], parts[1::2], strict=True):
                word = context.split("Which is ")[1].split("?")[0]
                assert context.endswith(f"\n{CHOICE_PROMPT} ASSISTANT:")
                assert options(context.split("?\n")[1])[answer[1:-4]] == word
    assert counts[0] > 2 * counts[1] > 50


def test_the_second_schedule_ends_with_options_in_the_tasks_form() -> None:
    """Some texts keep asking openly, so that open questions are not forgotten."""
    last = ["".join(parts) for parts in second(1.0)]
    choices = [t for t in last if CHOICE_PROMPT in t and "Which is " not in t]
    open_ones = [t for t in last if CHOICE_PROMPT not in t]
    assert len(choices) > 150
    assert 20 < len(open_ones) < 100


def test_a_letter_means_the_option_last_offered_under_it() -> None:
    """Any other answer means itself."""
    first, second_ = "A. red\nB. blue\n", "A. ring\nB. star\n"
    parts = [
        *(f"<s>USER: {first}? ASSISTANT:", " B</s>"),
        *(" A", " red;"),
        *(" red", " A;"),
        *(f"USER: What?\n{second_}? ASSISTANT:", " A</s>"),
        *("USER: Which letter is at the star? ASSISTANT:", " T</s>"),
    ]
    assert meant(parts) == [" blue", " red", " red", " ring", " T"]


@pytest.mark.parametrize("skill", SKILLS)
def test_in_the_tasks_form_only_letters_mean_another_word(skill: Skill) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        parts = segments(random_sample(skill, 3, rng))
        for context, answer, word in zip(parts[::2], parts[1::2], meant(parts), strict=True):
            said = answer.removesuffix("</s>")
            if skill in CHOICE_SKILLS and CHOICE_PROMPT in context:
                assert word[1:] == options(context)[said[1:]]
            else:
                assert word == said
