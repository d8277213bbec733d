"""Multiple-choice questions made from open ones."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT, Choice, offer, question


def test_the_right_answer_is_not_a_wrong_one() -> None:
    asked = question("What color?", "red", ("blue", "red", "green"))
    assert asked.others == ("blue", "green")


def test_options_are_the_answer_and_wrong_answers_in_random_order() -> None:
    rng = np.random.default_rng(0)
    asked = question("What color?", "red", ("red", "blue", "green", "white", "cyan"))
    places = set()
    for _ in range(60):
        choice = offer(asked, rng)
        assert len(set(choice.options)) == 4
        assert choice.options[choice.answer] == "red"
        places.add(choice.answer)
    assert places == {0, 1, 2, 3}
    assert len(offer(question("?", "yes", ("yes", "no")), rng).options) == 2
    assert len(offer(asked, rng, most=3).options) == 3


def test_prompts_list_options_by_letter() -> None:
    prompt = Choice("Which?", ("red", "blue"), 1).prompt()
    assert prompt == f"Which?\nA. red\nB. blue\n{CHOICE_PROMPT}"
