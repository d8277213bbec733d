"""The database keeps different names apart, has a steady clock, and retries deadlocks."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from mordal_optuna.errors import StoreError
from mordal_optuna.study.database import Name, Now, add, open_table, write
from tests.databases import new_database

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("name", Name(255), primary_key=True),
    sa.Column("number", sa.Integer),
)


def insert(name: str) -> sa.Insert:
    return sa.insert(TABLE).values(name=name, number=0)


@pytest.fixture
def engine(database: str) -> sa.Engine:
    return open_table(database, TABLE)


def test_a_row_is_added_once(engine: sa.Engine) -> None:
    assert add(engine, insert("a"))
    assert not add(engine, insert("a"))
    assert write(engine, sa.update(TABLE).values(number=0)) == 1  # found, though not changed
    assert write(engine, sa.delete(TABLE)) == 1
    assert write(engine, sa.delete(TABLE)) == 0


def test_names_that_differ_in_case_accents_or_spaces_are_different(engine: sa.Engine) -> None:
    names = ["clip-l", "CLIP-L", "clip-l ", "clïp-l", "クリップ"]
    for name in names:
        assert add(engine, insert(name)), name
    with engine.connect() as connection:
        for name in names:
            found = connection.execute(sa.select(TABLE.c.name).where(TABLE.c.name == name)).all()
            assert found == [(name,)]


def test_time_zones_and_the_end_of_summer_time_do_not_move_the_clock(mariadb: str) -> None:
    """At both instants whose local time is 2:30 in the night when clocks are set back."""
    engine = sa.create_engine(mariadb)
    for zone in ("SYSTEM", "-05:00"):
        for instant in (1792888200.25, 1792891800.25):  # 2026-10-25, 0:30 and 1:30 UTC
            with engine.begin() as connection:
                connection.execute(sa.text(f"set time_zone = '{zone}', timestamp = {instant}"))
                assert connection.execute(sa.select(Now())).scalar() == instant, zone


def test_the_clock_shows_the_present_time_with_fractions(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = [float(connection.execute(sa.select(Now())).scalar_one()) for _ in range(5)]
    assert all(abs(seconds - time.time()) < 60 for seconds in found)
    assert any(seconds % 1 for seconds in found)


def test_deadlocked_writes_are_retried(mariadb: str) -> None:
    """MariaDB aborts some of eight threads that add and remove the same row."""
    engine = open_table(new_database(mariadb), TABLE)
    failures: list[Exception] = []

    def hammer() -> None:
        try:
            for _ in range(40):
                add(engine, insert("a"))
                write(engine, sa.delete(TABLE).where(TABLE.c.name == "a"))
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
