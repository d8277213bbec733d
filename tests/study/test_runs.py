"""Who runs a study: one process at a time on a database; what died is found out."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from mordal_optuna.errors import BusyError
from mordal_optuna.study.runs import alone_on
from tests.databases import new_database


def test_a_study_is_run_by_one_at_a_time(database: str) -> None:
    refused = pytest.raises(BusyError, match="another process works on study 's' in '")
    with alone_on(database, "s"), alone_on(database, "S"), refused:
        alone_on(database, "s").__enter__()
    with alone_on(database, "s"):
        pass


def test_it_is_kept_for_longer_than_a_lease(database: str) -> None:
    with alone_on(database, "s", lease_seconds=0.6):
        time.sleep(0.9)
        with pytest.raises(BusyError):
            alone_on(database, "s").__enter__()


def test_a_killed_process_of_this_machine_is_found_at_once(database: str) -> None:
    code = (
        "import os; from mordal_optuna.study.runs import alone_on; "
        f"run = alone_on({database!r}, 's', lease_seconds=3600); run.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with alone_on(database, "s"):
        pass


def test_of_another_machine_it_is_known_after_its_lease(database: str) -> None:
    with alone_on(database, "s"):
        pass
    engine = sa.create_engine(database)

    def leave_behind(expires: float) -> None:
        insert = sa.text("insert into mordal_runs values ('s', 'elsewhere/1/a', :expires)")
        with engine.begin() as connection:
            connection.execute(insert, {"expires": expires})

    leave_behind(time.time() + 30)
    with pytest.raises(BusyError):
        alone_on(database, "s").__enter__()
    with engine.begin() as connection:
        connection.execute(sa.text("delete from mordal_runs"))
    leave_behind(time.time() - 30)
    with alone_on(database, "s"):
        pass


def test_the_database_is_named_without_its_password(mariadb: str) -> None:
    address = new_database(mariadb)
    with sa.create_engine(address).begin() as connection:
        connection.execute(sa.text("create or replace user me@localhost identified by 'secret'"))
        connection.execute(sa.text("grant all on *.* to me@localhost"))
    mine = sa.make_url(address).set(username="me", password="secret")
    address = mine.render_as_string(hide_password=False)
    with alone_on(address, "s"), pytest.raises(BusyError, match=r"me:\*\*\*@localhost") as caught:
        alone_on(address, "s").__enter__()
    assert "secret" not in str(caught.value)
