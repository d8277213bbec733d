"""Liveness: of this process, of ended processes, and of other machines (unknown)."""

from __future__ import annotations

import os
import subprocess
import sys

from mordal_optuna.processes import liveness
from mordal_optuna.processes.liveness import has_ended, owner_name


def named(process: int) -> str:
    machine, _, unique = owner_name().split("/")
    return f"{machine}/{process}/{unique}"


def test_this_process_lives_and_has_many_names() -> None:
    assert not has_ended(owner_name())
    assert owner_name() != owner_name()


def test_a_process_that_is_no_more_has_ended() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert has_ended(named(done.pid))


def test_a_process_that_was_not_waited_for_has_ended() -> None:
    """A zombie still has its number, as the children of a container's first process often do."""
    done = subprocess.Popen([sys.executable, "-c", "print()"], stdout=subprocess.PIPE)
    os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)  # until it has ended, unreaped
    assert has_ended(named(done.pid))
    done.communicate()


def test_a_process_that_proc_hides_lives(monkeypatch) -> None:  # noqa: ANN001
    """With `hidepid` other users' processes are not in /proc; a signal still finds them."""

    def hidden(self: object, *_: object, **__: object) -> str:
        raise FileNotFoundError(str(self))

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = named(child.pid)
    monkeypatch.setattr(liveness.Path, "read_text", hidden)
    assert not has_ended(name)
    child.communicate(b"\n")
    assert has_ended(name)


def test_a_process_of_another_machine_counts_as_alive() -> None:
    assert not has_ended("elsewhere/1/abc")
