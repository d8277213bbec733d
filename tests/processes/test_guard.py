"""Fencing tokens: which of two claims is the later one."""

from __future__ import annotations

from mordal_optuna.processes.guard import Token


def test_a_token_is_superseded_by_a_later_trial_of_the_same_study_alone() -> None:
    token = Token("study", 3)
    assert token.is_superseded_by(Token("study", 4))
    assert not token.is_superseded_by(Token("study", 3))
    assert not token.is_superseded_by(Token("study", 2))
    assert not token.is_superseded_by(Token("other", 4))
    assert not token.is_superseded_by(None)
