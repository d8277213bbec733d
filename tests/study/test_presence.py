"""Workers are seen alive with what they do; an outage neither stops them nor hides them long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mordal_optuna.study.presence import LONGEST, LiveWorker, Presence, alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def soon(condition: Callable[[], object], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.02)


def doings(database: str, study: str = "s") -> list[str]:
    return [worker.doing for worker in alive(database, study)]


def test_a_worker_is_seen_until_its_end(database: str) -> None:
    """With its machine, its devices and the newest text; other studies' workers are not."""
    assert alive(database, "s") == ()
    with Presence(database, "s", devices=2) as first:
        soon(lambda: doings(database) == ["starting"])
        first.does("training clip-l + qwen2-7b to 4,096 samples")
        soon(lambda: doings(database) == ["training clip-l + qwen2-7b to 4,096 samples"])
        with Presence(database, "s") as second, Presence(database, "S"):
            second.does("waiting")
            soon(lambda: doings(database)[1:] == ["waiting"])
            soon(lambda: doings(database, "S") == ["starting"])
            shown = alive(database, "s")
            assert [worker.devices for worker in shown] == [2, 1]
            assert shown[0].host
            assert shown[0].process == os.getpid()
            assert 0 <= shown[0].doing_seconds <= shown[0].seconds < 60
    assert alive(database, "s") == ()


def test_the_same_text_is_written_once(tmp_path: Path) -> None:
    """And its time runs on; a text beyond the column's length is cut."""
    database = f"sqlite:///{tmp_path / 'study.db'}"
    with Presence(database, "s", lease_seconds=0.6) as presence:
        presence.does("waiting")
        soon(lambda: doings(database) == ["waiting"])
        time.sleep(0.5)
        presence.does("waiting")
        time.sleep(0.3)
        assert alive(database, "s")[0].doing_seconds > 0.7
        presence.does("x" * 400)
        soon(lambda: doings(database) == ["x" * LONGEST])


def test_a_killed_worker_is_not_alive(tmp_path: Path) -> None:
    """At once on the same machine; its row is removed by the next worker."""
    database = f"sqlite:///{tmp_path / 'study.db'}"
    code = (
        "import sys, time; from mordal_optuna.study.presence import Presence; "
        "Presence(sys.argv[1], 's').__enter__(); time.sleep(60)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, database])
    soon(lambda: doings(database) == ["starting"], 60)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert alive(database, "s") == ()
    with Presence(database, "s"):
        soon(lambda: doings(database) == ["starting"])
        with sa.create_engine(database).connect() as connection:
            rows = connection.execute(sa.text("select worker from mordal_workers")).all()
        assert len(rows) == 1


def test_an_outage_stops_no_worker(tmp_path: Path) -> None:
    """The database is away when the worker starts; it shows itself once it can."""
    folder = tmp_path / "later"
    database = f"sqlite:///{folder / 'study.db'}"
    with Presence(database, "s", lease_seconds=0.3) as presence:
        presence.does("waiting")
        time.sleep(0.2)
        folder.mkdir()
        soon(lambda: doings(database) == ["waiting"])


def test_a_worker_whose_row_was_removed_shows_itself_again(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'study.db'}"
    with Presence(database, "s", lease_seconds=0.6) as presence:
        presence.does("waiting")
        soon(lambda: doings(database) == ["waiting"])
        with sa.create_engine(database).begin() as connection:
            connection.execute(sa.text("delete from mordal_workers"))
        soon(lambda: doings(database) == ["waiting"])


def test_a_silent_worker_of_another_machine_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setattr("mordal_optuna.study.presence.owner_name", lambda: "elsewhere/1/0")
    presence = Presence(database, "s", lease_seconds=0.5)
    presence._write()
    assert [type(worker) for worker in alive(database, "s")] == [LiveWorker]
    soon(lambda: not alive(database, "s"), 5)
