"""A worker runs to the plan's end, survives failures and ends the trials of dead workers."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from mordal_optuna.errors import (
    ConfigError,
    FailedSearchError,
    LastingOutageError,
    SearchError,
    TrainingError,
)
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.liveness import owner_name
from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, JOB, STOPPED_BECAUSE
from mordal_optuna.search.heartbeats import Assignment
from mordal_optuna.search.history import candidate_of, read_history
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.space import suggest_pair
from mordal_optuna.study.claims import AbandonedClaim, ClaimStore
from mordal_optuna.study.failures import clear_failures
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.worker import Worker
from tests.search.synthetic import Table, plan, search, table
from tests.studies import new_study

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from optuna.trial import FrozenTrial

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.study.objective import Measure


class Setting:
    """A study, its claims, and a clock that passes while workers sleep."""

    def __init__(self, folder: Path) -> None:
        """A new study in memory."""
        self.plan = plan()
        self.study = new_study(self.plan)
        self.now = 0.0
        self.slept: list[float] = []
        self.address = f"sqlite:///{folder / 'claims.db'}"

    def orphan(self) -> Candidate:
        """The trial of a worker that died between choosing a candidate and claiming it."""
        return suggest_pair(self.study.ask(), self.plan)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.slept.append(seconds)

    def claims(self) -> ClaimStore:
        """The claims of another worker."""
        return ClaimStore(self.address, "s", lease_seconds=60, clock=lambda: self.now)

    def worker(
        self,
        measure: Measure,
        patience: float = 30.0,
        claims: ClaimStore | None = None,
        **hooks: Callable[..., Any],
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
            **hooks,
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


def test_what_is_claimed_for_a_trial_is_given_back_whatever_happens(setting: Setting) -> None:
    """Here the database fails between the choice of a pair and its training."""
    claims = setting.claims()
    setting.study.sampler = CkaClusterSampler(setting.plan, claims=claims)
    worker = setting.worker(table(), claims=claims)

    def fails(candidate: Candidate, trial: int) -> AbstractContextManager[Any]:
        assert claims.claimed() == {candidate: trial}
        raise KeyboardInterrupt

    claims.hold = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        worker.run_trial()
    assert claims.claimed() == {}


def test_each_trial_is_described_before_its_end_and_then_shown(setting: Setting) -> None:
    """Optuna allows no attribute of a trial that has ended."""
    seen: list[int] = []

    def describe(
        number: int, state: TrialState, trials: Sequence[FrozenTrial] | None
    ) -> dict[str, str]:
        assert trials is None or trials[number].number == number
        assert setting.study.trials[number].state == TrialState.RUNNING
        return {"ends": state.name}

    def published() -> None:
        (last,) = setting.study.trials[-1:]
        assert last.user_attrs["ends"] == last.state.name
        seen.append(last.number)

    setting.worker(table(), describe=describe, published=published).run()
    assert seen == list(range(len(setting.study.trials)))


def test_the_claim_of_a_silent_worker_expires_and_its_trial_fails(
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


def test_trials_without_a_claim_are_ended_after_the_patience(setting: Setting) -> None:
    for _ in range(4):
        setting.orphan()
    setting.worker(table(), patience=30).run()
    assert 30 <= setting.now < 60
    assert [t.state for t in setting.study.trials[:4]] == [TrialState.FAIL] * 4


@pytest.mark.parametrize("claimed", [True, False])
def test_two_workers_may_end_the_same_abandoned_trial(
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
    setting.worker(table(), patience=0).end_abandoned_trials()
    assert setting.study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize("claimed", [True, False])
def test_an_abandoned_trial_does_not_count_against_its_pair(
    setting: Setting, *, claimed: bool
) -> None:
    """The reason is stored before the trial ends, so that it never counts as a failure."""
    pair = setting.orphan()
    if claimed:
        assert setting.claims().acquire(pair, 0)
    setting.now = 61.0
    setting.worker(table(), patience=0).end_abandoned_trials()
    trial = setting.study.trials[0]
    assert trial.state == TrialState.FAIL
    assert "worker" in trial.user_attrs[INTERRUPTED]
    assert read_history(setting.study.trials).of(pair).failures == 0


def test_a_trial_that_begins_while_claims_are_read_is_not_ended(setting: Setting) -> None:
    """It has its claim, though not yet when the claims were read."""
    claims = setting.claims()
    read = claims.sweep

    def another_begins() -> tuple[list[AbandonedClaim], dict[Candidate, int]]:
        found = read()
        claims.acquire(setting.orphan(), 0)
        return found

    claims.sweep = another_begins  # type: ignore[method-assign]
    setting.worker(table(), patience=0, claims=claims).end_abandoned_trials()
    assert setting.study.trials[0].state == TrialState.RUNNING


def test_an_unclaimed_trial_of_a_dead_worker_is_ended_at_once(setting: Setting) -> None:
    """Those of a live and of an unknown worker are left to the patience."""
    code = "from mordal_optuna.processes.liveness import owner_name; print(owner_name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for owner in (done.stdout.strip(), owner_name()):
        trial = setting.study.ask()
        setting.study._storage.set_trial_system_attr(
            trial._trial_id, JOB, Assignment(Candidate("clip", "llama"), 256, owner, 0.0).stored()
        )
    setting.orphan()
    setting.worker(table(), patience=30).end_abandoned_trials()
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


def test_an_error_outside_the_candidate_ends_the_worker(setting: Setting) -> None:
    """Its trial fails first, so that another worker can take over at once."""

    def broken(candidate: Candidate, samples: int) -> Measurement:
        raise ConfigError(["out of place"])

    for _ in range(3):  # it never counts against the pair
        with pytest.raises(ConfigError, match="out of place"):
            setting.worker(broken).run()
    assert [t.state for t in setting.study.trials] == [TrialState.FAIL] * 3
    assert len({candidate_of(t) for t in setting.study.trials}) == 1
    assert setting.claims().claimed() == {}


def test_a_program_error_ends_the_worker_and_counts_against_the_candidate(
    setting: Setting,
) -> None:
    """Otherwise every restart would end at the same candidate."""

    def broken(candidate: Candidate, samples: int) -> Measurement:
        raise AttributeError("no such thing")

    for _ in range(3):
        with pytest.raises(AttributeError):
            setting.worker(broken).run()
    tried = [candidate_of(t) for t in setting.study.trials]
    assert tried[0] == tried[1] != tried[2]


class Outage:
    """Measures, but for a number of calls in which the disk is full."""

    def __init__(self, calls: Container[int]) -> None:
        self.table = table()
        self._calls = calls
        self._count = -1

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, or fail."""
        self._count += 1
        if self._count in self._calls:
            raise OSError(errno.ENOSPC, "no space left")
        return self.table(candidate, samples)


def out(call: Callable[..., Any], times: int) -> Callable[..., Any]:
    """A call that the storage fails at first."""
    left = [StorageInternalError("the server is away")] * times

    def called(*given: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return call(*given, **named)

    return called


def finds_the_best(setting: Setting, *measures: Table) -> bool:
    """Whether the search is the undisturbed one: no rung twice, no failure, the same winner."""
    undisturbed = table()
    search(plan(), undisturbed)
    assert Counter(run for m in measures for run in m.runs) == Counter(undisturbed.runs)
    assert all(h.failures == 0 for h in study_history(setting.study).candidates.values())
    return candidate_of(setting.study.best_trial) == Candidate("siglip", "qwen")


def test_an_outage_is_waited_out_and_counts_against_no_candidate(setting: Setting) -> None:
    measure = Outage(range(2, 7))
    setting.worker(measure).run()
    assert finds_the_best(setting, measure.table)
    assert setting.slept == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert [t.state for t in setting.study.trials if INTERRUPTED in t.user_attrs] == [
        TrialState.FAIL
    ] * 5


def test_a_lasting_outage_ends_the_worker_and_the_next_one_continues(
    setting: Setting,
) -> None:
    before = Outage(range(3, 1000))
    with pytest.raises(LastingOutageError, match="no space left; it failed 14 times in a row"):
        setting.worker(before).run()
    assert len(before.table.runs) == 3
    assert STOPPED_BECAUSE not in setting.study.user_attrs
    measure = Outage(range(0))
    setting.worker(measure).run()
    assert finds_the_best(setting, before.table, measure.table)


def test_a_score_between_outages_resets_the_pauses(setting: Setting) -> None:
    """Eight outages, a score, eight outages more: sixteen in all, and never fourteen in a row."""
    measure = Outage({*range(8), *range(9, 17)})
    setting.worker(measure).run()
    assert finds_the_best(setting, measure.table)
    assert max(setting.slept) == 128.0


@pytest.mark.parametrize(
    "name",
    ["create_new_trial", "set_trial_state_values", "get_all_trials", "set_study_user_attr"],
)
def test_a_storage_that_is_out_is_waited_for_and_nothing_measured_is_lost(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    storage = setting.study._storage
    monkeypatch.setattr(storage, name, out(getattr(storage, name), times=3))
    measure = table()
    setting.worker(measure, patience=0).run()
    assert finds_the_best(setting, measure)


def test_a_failure_that_could_not_be_stored_is_stored_after_the_outage(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, bad, measure = setting.study._storage, Candidate("clip", "llama"), table()
    store = storage.set_trial_user_attr

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate != bad:
            return measure(candidate, samples)
        monkeypatch.setattr(storage, "set_trial_user_attr", out(store, times=3))
        raise TrainingError(samples, "loss is nan")

    setting.worker(broken).run()
    failed = setting.study.get_trials(states=(TrialState.FAIL,))
    assert ["loss is nan" in t.user_attrs[FAILURE] for t in failed] == [True, True]


def test_a_claim_that_could_not_be_released_is_released_after_the_outage(
    setting: Setting,
) -> None:
    """Otherwise this worker would wait for its own claim until the lease expires."""
    claims, measure = setting.claims(), table()
    claims.release = out(claims.release, times=1)  # type: ignore[method-assign]
    setting.worker(measure, claims=claims).run()
    assert finds_the_best(setting, measure)
    assert setting.now == 1.0


def test_a_common_failure_stops_every_worker_until_a_retry(setting: Setting) -> None:
    measure = table()

    def broken(candidate: Candidate, samples: int) -> Measurement:
        raise TrainingError(samples, f"no module for {candidate}")

    sentence = "3 candidates failed one after the other for a similar reason: .* continue with"
    for worker in (setting.worker(broken), setting.worker(measure)):
        with pytest.raises(FailedSearchError, match=sentence):
            worker.run()
    assert measure.runs == []
    assert STOPPED_BECAUSE not in setting.study.user_attrs
    clear_failures(setting.study)
    setting.worker(measure).run()
    assert finds_the_best(setting, measure)


def test_a_search_without_a_trainable_candidate_has_not_ended(setting: Setting) -> None:
    reasons = iter("abcdefghijklmnopqrstuvwxyz")

    def broken(candidate: Candidate, samples: int) -> Measurement:
        raise TrainingError(samples, f"the {next(reasons)} kernel is missing")

    sentence = r"no candidate could be trained \(last .* kernel is missing\); fix that, .*retry"
    with pytest.raises(FailedSearchError, match=sentence):
        setting.worker(broken).run()
    assert setting.study.user_attrs.get(STOPPED_BECAUSE) is None
    clear_failures(setting.study)
    measure = table()
    setting.worker(measure).run()
    assert finds_the_best(setting, measure)


@pytest.mark.parametrize("name", ["patience_seconds", "poll_seconds"])
def test_a_wait_below_zero_is_refused(setting: Setting, name: str) -> None:
    seconds = {"patience_seconds": 1.0, name: -1.0}
    with pytest.raises(SearchError, match=f"{name}: got -1.0; it must be at least 0"):
        Worker(
            setting.study,
            setting.plan,
            Objective(setting.plan, table()),
            setting.claims(),
            **seconds,  # type: ignore[arg-type]
        )
