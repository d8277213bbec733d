"""PostgreSQL is away for longer than a lease: workers wait, and no rung is trained twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.worker import Worker
from tests.databases import new_database
from tests.search.synthetic import believed, plan, table
from tests.studies import new_study

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from tests.databases import PostgresqlServer

LEASE, RUNG, OUTAGE = 1.5, 0.5, 4.0
WORKERS = 3


class Search:
    """Workers of one study, each with connections and claims of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.begun: list[tuple[Candidate, int]] = []
        self._curves = table()
        self.threads = [threading.Thread(target=self._work) for _ in range(WORKERS)]

    def _measure(self, candidate: Candidate, samples: int) -> Measurement:
        self.begun.append((candidate, samples))
        time.sleep(RUNG)
        return self._curves(candidate, samples)

    def _work(self) -> None:
        chosen = plan()
        study = optuna.load_study(
            study_name="s",
            storage=study_storage(self.address),
            sampler=CkaClusterSampler(chosen),
            pruner=LogLinearHalvingPruner(chosen),
        )
        claims = ClaimStore(self.address, "s", lease_seconds=LEASE)
        objective = Objective(chosen, self._measure, claims=claims)
        Worker(study, chosen, objective, claims, patience_seconds=20.0, poll_seconds=0.3).run()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_workers_wait_for_a_server_that_was_stopped_in_the_middle(
    password_postgresql: PostgresqlServer,
) -> None:
    """The workers' rungs end during the outage, and their leases as well."""
    address = new_database(password_postgresql.address())
    storage = study_storage(address)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    search = Search(address)
    for thread in search.threads:
        thread.start()
    while len(search.begun) < WORKERS:
        time.sleep(0.02)
    password_postgresql.stop()
    begun = len(search.begun)
    time.sleep(OUTAGE)
    assert len(search.begun) == begun  # nobody works without a claim
    password_postgresql.start()
    for thread in search.threads:
        thread.join(timeout=200)
        assert not thread.is_alive()

    chosen, undisturbed = plan(), new_study(plan())
    curves = table()
    undisturbed.optimize(Objective(chosen, curves))
    assert Counter(search.begun) == Counter(curves.runs)
    assert set(Counter(search.begun).values()) == {1}
    expected = chosen.ranking(study_history(undisturbed))
    assert believed(chosen.ranking(study_history(study))) == believed(expected)
    assert study.user_attrs[STOPPED_BECAUSE]
    assert ClaimStore(address, "s").claimed() == {}
    assert not study.get_trials(states=(TrialState.RUNNING,))
    with sa.create_engine(address).connect() as connection:
        open_now = "select count(*) from pg_stat_activity where datname = current_database()"
        # One of the process, and this one.
        assert connection.exec_driver_sql(open_now).scalar_one() == 2
