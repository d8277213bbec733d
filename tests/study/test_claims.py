"""Claims: one holder for each candidate, abandoned claims are removed, passwords are not shown."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from mordal_optuna.errors import LeaseLostError, StoreError, TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.guard import Token
from mordal_optuna.study.claims import ClaimStore, LocalClaims

if TYPE_CHECKING:
    from pathlib import Path

PAIR = Candidate("clip", "llama")


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def address(database: str) -> str:
    """Address of each kind of database in turn."""
    return database


def test_a_candidate_has_one_holder_and_is_free_afterwards(address: str) -> None:
    one, two = (ClaimStore(address, "s") for _ in range(2))
    with one.hold(PAIR, 0) as mine:
        assert mine is not None
        with two.hold(PAIR, 1) as other:
            assert other is None
        with two.hold(Candidate("clip", "qwen"), 2) as free:
            assert free is not None
        assert one.claimed() == {PAIR: 0}
    assert one.claimed() == {}
    with two.hold(PAIR, 3) as now:
        assert now is not None


def test_a_claim_that_was_taken_for_a_trial_is_held_by_that_trial_alone(address: str) -> None:
    one, two = (ClaimStore(address, "s") for _ in range(2))
    assert one.take(PAIR, 0)
    assert not one.take(PAIR, 1)
    assert not two.take(PAIR, 2)
    with one.hold(PAIR, 1) as other:
        assert other is None
    with one.hold(PAIR, 0) as mine:
        assert mine is not None
        mine.check()
    assert one.claimed() == {}


def test_what_a_trial_has_taken_and_never_held_is_given_back(address: str) -> None:
    one, two = (ClaimStore(address, "s") for _ in range(2))
    assert one.take(PAIR, 0)
    one.give_back(1)
    assert two.claimed() == {PAIR: 0}
    one.give_back(0)
    assert two.claimed() == {}
    assert one.guard(PAIR) is None
    one.give_back(0)  # nothing is left
    assert two.take(PAIR, 3)
    two.give_back(3)


def test_claims_of_different_studies_are_independent(address: str) -> None:
    with ClaimStore(address, "a").hold(PAIR, 0), ClaimStore(address, "b").hold(PAIR, 0) as held:
        assert held is not None


def test_an_expired_lease_is_reported_once_and_its_holder_loses_the_claim(address: str) -> None:
    clock = Clock()
    one, two = (ClaimStore(address, "s", lease_seconds=10, clock=clock) for _ in range(2))
    with one.hold(PAIR, 7) as mine:
        assert mine is not None
        clock.now += 9
        mine.check()  # renews
        clock.now += 9
        assert two.remove_abandoned() == []
        clock.now += 2
        assert [(d.candidate, d.trial) for d in two.remove_abandoned()] == [(PAIR, 7)]
        assert two.remove_abandoned() == []
        with two.hold(PAIR, 8) as other:
            assert other is not None
            with pytest.raises(LeaseLostError, match="silent for longer than its lease"):
                mine.check()
            one.release(PAIR)  # takes nothing from the other one
            assert two.claimed() == {PAIR: 8}


def test_a_claim_is_renewed_while_it_is_held(address: str) -> None:
    """By the database's clock: after more than the length of a lease the claim is still held."""
    one, two = (ClaimStore(address, "s", lease_seconds=0.6) for _ in range(2))
    with one.hold(PAIR, 0) as mine:
        time.sleep(0.9)
        assert two.remove_abandoned() == []
        assert mine is not None
        mine.check()


def test_the_claim_of_a_killed_local_process_is_abandoned_at_once(address: str) -> None:
    """Although its lease has an hour to go."""
    code = (
        "import os; from mordal_optuna.study.claims import ClaimStore; "
        "from mordal_optuna.pool import Candidate; "
        f"store = ClaimStore({address!r}, 's', lease_seconds=3600); "
        "store.acquire(Candidate('clip', 'llama'), 4); "
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    store = ClaimStore(address, "s")
    with store.hold(PAIR, 5) as held:
        assert held is None
    assert [dead.trial for dead in store.remove_abandoned()] == [4]
    with store.hold(PAIR, 5) as held:
        assert held is not None


def test_a_zombie_process_counts_as_ended(address: str) -> None:
    """Its process number still exists, as is common in containers."""
    code = (
        "from mordal_optuna.study.claims import ClaimStore; "
        "from mordal_optuna.pool import Candidate; "
        f"store = ClaimStore({address!r}, 's', lease_seconds=3600); "
        "store.acquire(Candidate('clip', 'llama'), 4); print(flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # until it has ended
    store = ClaimStore(address, "s")
    for _ in range(100):
        found = store.remove_abandoned()
        if found:
            break
        time.sleep(0.05)
    assert [dead.trial for dead in found] == [4]
    process.wait()


def test_a_held_claim_guards_the_training_under_it(address: str) -> None:
    """With a token that names the study and the trial."""
    one, two = (ClaimStore(address, "s", identity=name) for name in ("first", "second"))
    assert one.guard(PAIR) is None
    with one.hold(PAIR, 3) as mine:
        guard = one.guard(PAIR)
        assert guard is mine
        assert guard
        assert guard.token == Token("first", 3)
        assert guard.failure is None
        guard.check()
        assert one.guard(Candidate("clip", "qwen")) is None
        assert two.guard(PAIR) is None
        with two.hold(PAIR, 4):
            assert one.guard(PAIR) is guard
            assert two.guard(PAIR) is None
    assert one.guard(PAIR) is None


def test_a_failed_release_does_not_hide_another_error(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away meanwhile; the lease expires by itself."""
    store = ClaimStore(address, "s")

    def away(*_: object) -> None:
        raise StoreError(address, "OperationalError")

    monkeypatch.setattr(store, "release", away)
    with pytest.raises(TrainingError, match="loss is nan"), store.hold(PAIR, 0):
        raise TrainingError(8, "loss is nan")
    assert store.guard(PAIR) is None


def test_a_table_of_an_older_version_still_works(tmp_path: Path) -> None:
    """As created before the columns of names had their own type."""
    address = f"sqlite:///{tmp_path / 'old.db'}"
    created = (
        "CREATE TABLE mordal_claims (study VARCHAR(255) NOT NULL, vision_encoder VARCHAR(255) NOT "
        "NULL, llm VARCHAR(255) NOT NULL, trial INTEGER NOT NULL, owner VARCHAR(255) NOT NULL, "
        "expires DOUBLE NOT NULL, PRIMARY KEY (study, vision_encoder, llm))"
    )
    with sa.create_engine(address).begin() as connection:
        connection.execute(sa.text(created))
        connection.execute(
            sa.text("INSERT INTO mordal_claims VALUES ('s', 'clip', 'llama', 4, 'old/1/a', 0)")
        )
    store = ClaimStore(address, "s", lease_seconds=0.3)
    assert store.claimed() == {PAIR: 4}
    assert store.remove_abandoned() == []  # watched for a third of a lease
    time.sleep(0.2)
    assert [dead.trial for dead in store.remove_abandoned()] == [4]
    with store.hold(PAIR, 5) as held:
        assert held is not None


def test_threads_of_one_process_share_local_claims() -> None:
    claims = LocalClaims()
    with claims.hold(PAIR, 0) as mine, claims.hold(PAIR, 1) as other:
        assert mine is not None
        assert other is None
    with claims.hold(PAIR, 2) as again:
        assert again is not None


def test_an_unusable_database_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match=r"sqlite:////nowhere/x.db.*cannot be used"):
        ClaimStore("sqlite:////nowhere/x.db", "s")
