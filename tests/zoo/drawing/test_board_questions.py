"""Questions about scenes on the board: one right answer, and lmms-eval's prompt."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.board import random_scene
from mordal_optuna.zoo.drawing.board_questions import ask, choose
from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT


def test_the_right_answer_is_never_among_the_wrong_ones() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = random_scene(rng)
        question = ask(scene, rng)
        assert question.answer not in question.others
        assert question.others
        choice = choose(scene, rng)
        assert len(set(choice.options)) == len(choice.options) >= 2


def test_a_choice_is_asked_as_upstream_asks_it() -> None:
    rng = np.random.default_rng(4)
    choice = choose(random_scene(rng), rng)
    lines = choice.prompt().split("\n")
    assert lines[0] == choice.text
    assert lines[1] == f"A. {choice.options[0]}"
    assert lines[-1] == CHOICE_PROMPT
