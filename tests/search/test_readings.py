"""What a worker's sampler, objective and loop share of a study's readings serves once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from mordal_optuna.search.attributes import RUNGS
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.readings import SharedHistories, running_beside
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.space import PairSpace
from mordal_optuna.study.claims import ClaimStore
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.worker import Worker
from tests.search.synthetic import ENCODERS, LLMS, MEDOIDS, plan, table
from tests.studies import new_study

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from optuna.trial import FrozenTrial

ONE = History({MEDOIDS[0]: CandidateHistory()})


def test_an_offered_history_serves_once() -> None:
    shared = SharedHistories()
    assert shared.take_offered() is None
    shared.offer(ONE, [MEDOIDS[1]])
    assert shared.take_offered() == (ONE, frozenset(MEDOIDS[1:2]))
    assert shared.take_offered() is None


def test_a_history_read_under_a_claim_is_that_of_its_trial() -> None:
    shared = SharedHistories()
    shared.keep(3, ONE)
    assert shared.take_kept(4) is None
    shared.keep(3, ONE)
    assert shared.take_kept(3) == ONE
    assert shared.take_kept(3) is None


def test_threads_share_nothing() -> None:
    shared, seen = SharedHistories(), list[object]()
    shared.offer(ONE, ())
    thread = threading.Thread(target=lambda: seen.append(shared.take_offered()))
    thread.start()
    thread.join()
    assert seen == [None]
    assert shared.take_offered() is not None


def test_the_trials_beside_one_are_those_that_run_with_a_pair() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, space = new_study(plan()), PairSpace(ENCODERS, LLMS).distributions
    ended, running, own = (study.ask(space) for _ in range(3))
    study.ask()  # has no pair yet
    study.tell(ended, state=TrialState.FAIL)
    beside = running_beside(study, study.trials[own.number])
    assert [trial.number for trial in beside] == [running.number]


def test_a_trial_of_a_worker_reads_the_study_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its assignment, to find competitors, and after its score; both serve again.

    Only a worker that finds no job reads once more: at its start, while it waits, at its end.
    """
    read, counts = Study.get_trials, [0]

    def counted(self: Study, *arguments: Any, **named: Any) -> list[FrozenTrial]:
        counts[-1] += 1
        return read(self, *arguments, **named)

    monkeypatch.setattr(Study, "get_trials", counted)
    study, chosen = new_study(plan()), plan()
    claims = ClaimStore(f"sqlite:///{tmp_path / 'claims.db'}", "s", clock=lambda: 0.0)
    study.sampler = CkaClusterSampler(chosen, claims=claims)
    objective = Objective(chosen, table(), claims=claims)
    Worker(
        study,
        chosen,
        objective,
        claims,
        patience_seconds=0,
        published=lambda: counts.append(0),
    ).run()
    assert counts[0] == 3
    assert counts[-1] == 1  # at the end nothing is left in the kept reading
    # A trial with two rungs reads once more.
    rungs = [len(t.user_attrs.get(RUNGS, {})) for t in read(study)]
    assert counts[1:-1] == [1 + own for own in rungs[1:]]
