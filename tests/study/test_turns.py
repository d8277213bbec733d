"""Turns: one worker at a time; the others wait, and take over from one that has died."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.study.turns import FIRST_PAUSE, LONGEST_PAUSE, Pauses, Turns, part_name

if TYPE_CHECKING:
    from pathlib import Path


def test_a_turn_is_one_workers_and_waited_for(database: str) -> None:
    """Parts and studies are independent of each other."""
    first = Turns(database, "s")
    slept: list[float] = []
    with first.try_for("begin") as mine:
        assert mine
        second = Turns(database, "s", sleep=slept.append)
        with second.try_for("begin") as other:
            assert not other
        with second.try_for("compare clip") as other, Turns(database, "t").try_for("begin") as own:
            assert other
            assert own
    with second.wait_for("begin"):
        assert slept == []


def test_who_waits_gets_the_turn_after_the_other(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'study.db'}"
    order: list[str] = []
    here, begun = Turns(address, "s"), threading.Event()

    def wait() -> None:
        begun.set()
        with Turns(address, "s", sleep=lambda _: None).wait_for("begin"):
            order.append("second")

    waiting = threading.Thread(target=wait)
    with here.wait_for("begin"):
        waiting.start()
        begun.wait(10)
        order.append("first")
    waiting.join(30)
    assert order == ["first", "second"]


def test_the_turn_of_a_dead_worker_is_free(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'study.db'}"
    code = (
        "import os; from mordal_optuna.study.turns import Turns; "
        f"Turns({address!r}, 's').try_for('begin').__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with Turns(address, "s").try_for("begin") as mine:
        assert mine


def test_pauses_grow_until_something_happens() -> None:
    slept: list[float] = []
    pauses = Pauses(slept.append)
    for _ in range(12):
        pauses.wait()
    assert slept[0] == FIRST_PAUSE
    assert slept[-1] == LONGEST_PAUSE
    assert slept == sorted(slept)
    pauses.reset()
    pauses.wait()
    assert slept[-1] == FIRST_PAUSE


@pytest.mark.parametrize("length", [10, 255, 300])
def test_names_of_parts_are_short_and_different(length: int) -> None:
    names = {part_name("s" * length, f"compare {model}") for model in "ab"}
    assert len(names) == 2
    assert max(map(len, names)) <= 255
