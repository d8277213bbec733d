"""Order of questions, and how they are grouped."""

from __future__ import annotations

from mordal_optuna.evaluation.guards import import_lmms_eval

import_lmms_eval()

from mordal_optuna.evaluation.questions import (  # noqa: E402 - after the guarded import
    Question,
    by_settings,
    longest_first,
)


def asked(*lengths: int) -> list[Question]:
    return [Question("t", "test", n, "{}", length) for n, length in enumerate(lengths)]


def test_the_longest_come_first_and_those_on_one_picture_together() -> None:
    questions = asked(5, 9, 7, 8, 1)
    assert longest_first(questions, range(5), range(5)) == [1, 3, 2, 0, 4]
    assert longest_first(questions, range(5), ["a", "b", "a", "a", "b"]) == [1, 4, 3, 2, 0]
    assert longest_first(questions, [4, 0], ["a", "b", "a", "a", "b"]) == [0, 4]


def test_the_given_order_is_kept_where_the_pictures_are_unknown() -> None:
    """Most tasks have questions on one picture together; other orders would encode it again."""
    assert longest_first(asked(5, 9, 7), [2, 0, 1], None) == [2, 0, 1]


def test_those_with_the_same_arguments_are_grouped() -> None:
    questions = [Question("t", "test", n, "ab"[n % 2], 1) for n in range(4)]
    assert by_settings(questions, range(4)) == [("t", "a", [0, 2]), ("t", "b", [1, 3])]
