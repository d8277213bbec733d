"""A worker: runs to the plan's end, survives failures, clears away what the dead have left."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import ConfigError, TrainingError
from mordal_optuna.liveness import owner_name
from mordal_optuna.objective import Objective
from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import FAILURE, INTERRUPTED, JOB, candidate_of, read_history
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import STOPPED_BECAUSE, CkaClusterSampler
from mordal_optuna.search.space import suggest_pair
from mordal_optuna.store import ClaimStore
from mordal_optuna.worker import Worker
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.objective import Measure
    from mordal_optuna.search.curves import Measurement


class Setting:
    """A study, its claims, and a clock that passes while workers sleep."""

    def __init__(self, folder: Path) -> None:
        """A new study in memory."""
        self.plan = plan()
        self.study = optuna.create_study(
            direction="maximize",
            sampler=CkaClusterSampler(self.plan),
            pruner=LogLinearHalvingPruner(self.plan),
        )
        self.now = 0.0
        self.address = f"sqlite:///{folder / 'claims.db'}"

    def orphan(self) -> Candidate:
        """What a worker leaves that dies between choosing a candidate and claiming it."""
        return suggest_pair(self.study.ask(), self.plan)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def claims(self) -> ClaimStore:
        """Of another worker."""
        return ClaimStore(self.address, "s", lease_seconds=60, clock=lambda: self.now)

    def worker(
        self, measure: Measure, patience: float = 30.0, claims: ClaimStore | None = None
    ) -> Worker:
        """A worker of its own."""
        claims = claims or self.claims()
        return Worker(
            self.study,
            self.plan,
            Objective(self.plan, measure, claims=claims),
            claims,
            patience_seconds=patience,
            sleep=self.sleep,
            clock=lambda: self.now,
        )


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_a_worker_does_what_optimize_does(setting: Setting) -> None:
    expected, measure = table(), table()
    search(plan(), expected)
    setting.worker(measure).run()
    assert measure.runs == expected.runs
    assert STOPPED_BECAUSE in setting.study.user_attrs
    setting.worker(measure).run()  # nothing left to do
    assert measure.runs == expected.runs


def test_the_claim_of_a_silent_worker_is_waited_out_and_its_trial_failed(
    setting: Setting,
) -> None:
    """Another worker holds all four medoids and is silent: ours waits for the lease to end."""
    trials, other = range(4), setting.claims()
    for number in trials:
        assert other.acquire(setting.orphan(), number)
    measure = table()
    setting.worker(measure).run()
    assert setting.now >= 60
    assert [setting.study.trials[n].state for n in trials] == [TrialState.FAIL] * 4
    assert not any(FAILURE in setting.study.trials[n].user_attrs for n in trials)
    assert len(measure.runs) == len(set(measure.runs))
    assert candidate_of(setting.study.best_trial) == Candidate("siglip", "qwen")


def test_trials_without_a_claim_are_given_up_after_the_patience(setting: Setting) -> None:
    for _ in range(4):
        setting.orphan()
    setting.worker(table(), patience=30).run()
    assert 30 <= setting.now < 60
    assert [t.state for t in setting.study.trials[:4]] == [TrialState.FAIL] * 4


@pytest.mark.parametrize("claimed", [True, False])
def test_workers_that_clear_the_same_trial_away_do_not_end_one_another(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, *, claimed: bool
) -> None:
    """`Study.tell` looks and then sets; here another worker comes in between."""
    pair = setting.orphan()
    if claimed:
        assert setting.claims().acquire(pair, 0)
    setting.now = 61.0
    storage = setting.study._storage
    end = storage.set_trial_state_values

    def late(*given: Any) -> bool:
        end(0, TrialState.FAIL)
        return end(*given)

    monkeypatch.setattr(storage, "set_trial_state_values", late)
    setting.worker(table(), patience=0).clear_away()
    assert setting.study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize("claimed", [True, False])
def test_what_is_cleared_away_was_not_the_pairs_fault(setting: Setting, *, claimed: bool) -> None:
    """It is told why before it ends, so that its failure never counts."""
    pair = setting.orphan()
    if claimed:
        assert setting.claims().acquire(pair, 0)
    setting.now = 61.0
    setting.worker(table(), patience=0).clear_away()
    trial = setting.study.trials[0]
    assert trial.state == TrialState.FAIL
    assert "worker" in trial.user_attrs[INTERRUPTED]
    assert read_history(setting.study.trials).of(pair).failures == 0


def test_a_trial_that_begins_while_claims_are_read_is_left_alone(setting: Setting) -> None:
    """It has its claim, though not yet when the claims were read."""
    claims = setting.claims()
    read = claims.claimed

    def another_begins() -> dict[Candidate, int]:
        found = read()
        claims.acquire(setting.orphan(), 0)
        return found

    claims.claimed = another_begins  # type: ignore[method-assign]
    setting.worker(table(), patience=0, claims=claims).clear_away()
    assert setting.study.trials[0].state == TrialState.RUNNING


def test_an_unclaimed_trial_of_a_worker_known_dead_is_cleared_at_once(setting: Setting) -> None:
    """One of a live worker, and one of nobody knows whom, are left to the patience."""
    code = "from mordal_optuna.liveness import owner_name; print(owner_name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for owner in (done.stdout.strip(), owner_name()):
        trial = setting.study.ask()
        setting.study._storage.set_trial_system_attr(trial._trial_id, JOB, {"owner": owner})
    setting.orphan()
    setting.worker(table(), patience=30).clear_away()
    states = [trial.state for trial in setting.study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]


def test_a_failing_candidate_is_tried_twice_and_others_go_on(setting: Setting) -> None:
    measure, bad = table(), Candidate("clip", "llama")

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    setting.worker(broken).run()
    failed = setting.study.get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all("loss is nan" in t.user_attrs[FAILURE] for t in failed)
    assert candidate_of(setting.study.best_trial) == Candidate("siglip", "qwen")


def test_an_error_that_is_not_a_candidates_ends_the_worker(setting: Setting) -> None:
    """Its trial is failed first, so that another worker may go on at once."""

    def broken(candidate: Candidate, samples: int) -> Measurement:
        raise ConfigError(["out of place"])

    with pytest.raises(ConfigError, match="out of place"):
        setting.worker(broken).run()
    assert setting.study.trials[0].state == TrialState.FAIL
    assert setting.claims().claimed() == {}
