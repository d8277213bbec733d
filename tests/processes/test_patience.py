"""Patience: pauses grow, success ends them, a lasting outage ends the tries."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest

from mordal_optuna.errors import InfrastructureError, LastingOutageError
from mordal_optuna.processes.patience import FIRST_PAUSE, LONGEST_PAUSE, TRIES, Patience
from mordal_optuna.progress import Silent


class Notes(Silent):
    """Keeps notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def test_work_is_done_again_after_growing_pauses_until_it_succeeds() -> None:
    slept: list[float] = []
    notes = Notes()

    def work() -> str:
        if len(slept) < 3:
            raise OSError(errno.ENOSPC, "full")
        return "done"

    assert Patience(slept.append, notes).through(work) == "done"
    assert slept == [1.0, 2.0, 4.0]
    assert len(notes.notes) == 1
    assert "full; trying again with growing pauses" in notes.notes[0]


def test_a_lasting_outage_ends_in_one_sentence_after_about_half_an_hour() -> None:
    slept: list[float] = []

    def work() -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(LastingOutageError, match=r"broken; it failed 14 times in a row") as caught:
        Patience(slept.append, Silent()).through(work)
    assert caught.value.tries == TRIES == len(slept) + 1
    assert slept[0] == FIRST_PAUSE
    assert all(after == min(2 * before, LONGEST_PAUSE) for before, after in pairwise(slept))
    assert 25 * 60 < sum(slept) < 35 * 60


def test_pauses_start_again_after_a_success() -> None:
    slept: list[float] = []
    patience = Patience(slept.append, Silent())
    for _ in range(3):
        for _ in range(TRIES - 1):
            patience.wait(InfrastructureError("broken"))
        patience.reset()
    assert slept[: TRIES - 1] * 3 == slept


def test_other_errors_are_not_waited_for() -> None:
    slept: list[float] = []
    with pytest.raises(ZeroDivisionError):
        Patience(slept.append, Silent()).through(lambda: 1 // 0)
    assert slept == []
