"""Any interleaving of workers, deaths, stalls and retries ends as the undisturbed search does.

The workers are advanced by hand, one step at a time, on a simulated clock; study, sampler, pruner,
objective, claims and the removal of abandoned trials are the real ones.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mordal_optuna.errors import LeaseLostError, TrainingError
from mordal_optuna.search.attributes import FAILURE, RUNGS
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.plan import next_job
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import ClaimStore
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.worker import Worker
from tests.search.synthetic import believed, plan, search, table
from tests.studies import new_study

if TYPE_CHECKING:
    from collections.abc import Generator

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.plan import Plan

LEASE = 10.0
WORKERS = 3


@dataclass
class Busy:
    """A running trial."""

    trial: optuna.Trial
    steps: Generator[Job, Measurement, float]
    job: Job
    store: ClaimStore


@dataclass
class Hand:
    """One worker, advanced by hand."""

    store: ClaimStore
    worker: Worker
    objective: Objective
    asked: optuna.Trial | None = None
    busy: Busy | None = None

    @property
    def idle(self) -> bool:
        """Whether it has no trial."""
        return self.asked is None and self.busy is None


@dataclass
class Crew:
    """Workers on one study and one clock."""

    chosen: Plan
    address: str
    now: float = 1000.0
    hands: list[Hand] = field(default_factory=list)
    silent: list[Busy] = field(default_factory=list)
    failed: set[Candidate] = field(default_factory=set)
    finished: bool = False

    def __post_init__(self) -> None:
        """All start at once."""
        self.study = new_study(self.chosen)
        self.table = table()
        self.hands = [self._hand() for _ in range(WORKERS)]

    def _hand(self) -> Hand:
        store = ClaimStore(self.address, "s", lease_seconds=LEASE, clock=lambda: self.now)
        objective = Objective(self.chosen, self.table, claims=store)
        worker = Worker(
            self.study,
            self.chosen,
            objective,
            store,
            patience_seconds=LEASE,
            clock=lambda: self.now,
        )
        return Hand(store, worker, objective)

    def step(self, number: int) -> None:
        """One worker asks for a trial, starts it, or ends its job and goes on.

        Between asking and starting, a worker has no pair; all run in one thread, so that one
        that finds every job taken is given the most wanted one again instead of waiting.
        """
        hand = self.hands[number]
        if hand.asked:
            trial, hand.asked = hand.asked, None
            self._advance(hand, trial, hand.objective.steps(trial), None)
            return
        if hand.busy:
            busy, hand.busy = hand.busy, None
            self._advance(hand, busy.trial, busy.steps, self._measured(busy.job))
            return
        hand.worker.end_abandoned_trials()
        job = next_job(self.chosen, study_history(self.study))
        self.finished = isinstance(job, Finished)
        if isinstance(job, Job):
            hand.asked = self.study.ask()

    def fail(self, number: int) -> None:
        """A worker's training fails, once a candidate at most."""
        busy = self.hands[number].busy
        if busy is None or busy.job.candidate in self.failed:
            return
        self.failed.add(busy.job.candidate)
        self.hands[number].busy = None
        try:
            busy.steps.throw(TrainingError(busy.job.samples, "no memory"))
        except TrainingError as error:
            busy.trial.set_user_attr(FAILURE, str(error))
            self.study.tell(busy.trial, state=TrialState.FAIL, skip_if_finished=True)

    def silence(self, number: int) -> None:
        """A worker dies or stalls and stops renewing; a new one takes its place.

        The others' leases are renewed while its own runs out, as their threads do.
        """
        busy = self.hands[number].busy
        if busy:
            self.silent.append(busy)
        self.hands[number] = self._hand()
        for _ in range(3):
            self.now += LEASE / 2
            for hand in self.hands:
                if hand.busy:
                    hand.store.renew(hand.busy.job.candidate)

    def wake(self) -> None:
        """A stalled worker ends its job after all, and learns that its lease is lost."""
        if not self.silent:
            return
        busy = self.silent.pop()
        # If its claim was not removed yet, the lease is renewed now and the trial may continue.
        held = busy.store.renew(busy.job.candidate)
        state, lost = TrialState.FAIL, False
        try:
            busy.steps.send(self._measured(busy.job))
        except LeaseLostError:
            lost = True
        except (StopIteration, TrialPruned):
            state = TrialState.PRUNED
        else:
            busy.steps.close()
        assert lost != held
        self.study.tell(busy.trial, state=state, skip_if_finished=True)

    def run_to_the_end(self) -> None:
        """Everyone works, in turn, until the search is over."""
        for turn in range(1000):
            self.step(turn % WORKERS)
            idle = all(hand.idle for hand in self.hands)
            if idle and self.finished:
                return
            if idle:
                self.now += LEASE + 1  # trials of silent workers are ended
        raise AssertionError("the search does not end")

    def _measured(self, job: Job) -> Measurement:
        return self.table(job.candidate, job.samples)

    def _advance(
        self,
        hand: Hand,
        trial: optuna.Trial,
        steps: Generator[Job, Measurement, float],
        measurement: Measurement | None,
    ) -> None:
        try:
            job = next(steps) if measurement is None else steps.send(measurement)
        except StopIteration as end:
            self.study.tell(trial, end.value, skip_if_finished=True)
        except TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except UpdateFinishedTrialError:
            steps.close()  # asked for too long ago: another worker has ended it
        else:
            hand.busy = Busy(trial, steps, job, hand.store)

    def paid(self) -> Counter[tuple[Candidate, int]]:
        """How often each rung of each candidate was measured and reported."""
        return Counter(
            (candidate_of(trial), int(samples))
            for trial in self.study.trials
            for samples in trial.user_attrs.get(RUNGS, {})
            if int(samples) in trial.intermediate_values
        )


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["step"] * 8 + ["fail", "silence", "wake"]),
        st.integers(0, WORKERS - 1),
    ),
    max_size=80,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    actions=ACTIONS,
    finalists=st.integers(0, 4),
    top_clusters=st.integers(1, 4),
    race=st.sampled_from([(), (2048, 4096)]),
)
def test_every_rung_is_measured_once_and_the_ranking_is_the_undisturbed_one(
    actions: list[tuple[str, int]], finalists: int, top_clusters: int, race: tuple[int, ...]
) -> None:
    chosen = plan(finalists=finalists, top_clusters=top_clusters, race=race)
    undisturbed = table()
    expected = chosen.ranking(study_history(search(chosen, undisturbed)))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        crew = Crew(chosen, f"sqlite:///{Path(folder) / 'claims.db'}")
        for action, number in actions:
            if action == "wake":
                crew.wake()
            else:
                getattr(crew, action)(number)
        crew.run_to_the_end()
        for busy in crew.silent:
            stack.callback(busy.steps.close)
    assert crew.paid() == Counter(dict.fromkeys(undisturbed.runs, 1))
    assert believed(chosen.ranking(study_history(crew.study))) == believed(expected)
    assert not any(t.state == TrialState.RUNNING for t in crew.study.trials)
