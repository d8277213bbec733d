"""SIGTERM: the process ends at once, or where it says; a second one changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mordal_optuna.errors import Preempted
from mordal_optuna.processes import stopping
from mordal_optuna.processes.stopping import StopRequest


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def wait_as_a_library() -> None:
    """Get the signal within code that catches all errors."""
    try:
        terminate()
        time.sleep(5)
    except Exception:  # noqa: BLE001, S110 - as some libraries do
        pass


def test_sigterm_ends_the_process_with_75_wherever_it_is() -> None:
    """As an exception that no `except Exception` stops; then the former reaction is back."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as caught, StopRequest().listening():
        wait_as_a_library()
    assert caught.value.code == 75
    assert "SIGTERM" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) is before


def test_within_a_deferred_section_it_is_only_noted() -> None:
    stop = StopRequest()
    with stop.listening():
        with stop.deferred():
            terminate()
            assert stop.asked
        with pytest.raises(Preempted):
            stop.check()
        terminate()  # as by a launcher, while the process leaves
        stop.check()


def test_an_immediate_section_within_a_deferred_one_is_left_at_once() -> None:
    stop = StopRequest()
    with stop.listening(), stop.deferred():
        with pytest.raises(Preempted), stop.immediate():
            wait_as_a_library()
        assert stop.asked
    late = StopRequest()
    with late.listening(), late.deferred():
        terminate()
        with pytest.raises(Preempted), late.immediate():
            raise AssertionError


def test_a_process_that_cannot_leave_by_itself_ends_all_the_same() -> None:
    """Within 30 seconds, before a scheduler kills it; here within a tenth."""
    assert stopping.LEAVE_SECONDS < 30
    code = (
        "import os, signal, time; from mordal_optuna.processes import stopping; "
        "stopping.LEAVE_SECONDS = 0.1; stop = stopping.StopRequest()\n"
        "with stop.listening(), stop.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert done.returncode == 75


def test_a_forked_process_ends_by_the_signal() -> None:
    """One that decodes data: it has nothing to give back."""
    stop = StopRequest()
    with stop.listening():
        process = os.fork()
        if not process:
            terminate()
            time.sleep(5)
            os._exit(1)
        _, status = os.waitpid(process, 0)
        assert not stop.asked
    assert os.WTERMSIG(status) == signal.SIGTERM
