"""The objective reports earlier scores first, stores failures and gives final values."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import (
    CheckpointError,
    InfrastructureError,
    LeaseLostError,
    StoreError,
    TrainingError,
)
from mordal_optuna.pool import Candidate
from mordal_optuna.search.answers import Answers
from mordal_optuna.search.attributes import (
    CONTINUES,
    FAILURE,
    INTERRUPTED,
    LOST_SECONDS,
    NAME,
    RUNGS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.tasks import weighted_mean
from mordal_optuna.study.claims import LocalClaims
from mordal_optuna.study.objective import Objective
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import FULL, plan, search, table
from tests.search.synthetic import RUNGS as SAMPLES
from tests.studies import new_study

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.trial import FrozenTrial

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.study.claims import Claims, HeldClaim


def test_a_promoted_trial_repeats_its_curve_and_links_back() -> None:
    study = search(plan(), table())
    promoted = [t for t in study.trials if CONTINUES in t.user_attrs]
    assert promoted
    for trial in promoted:
        before = study.trials[trial.user_attrs[CONTINUES]]
        assert candidate_of(before) == candidate_of(trial)
        assert before.intermediate_values.items() <= trial.intermediate_values.items()
        # only what is new was paid for
        new = trial.intermediate_values.keys() - before.intermediate_values.keys()
        assert set(trial.user_attrs[RUNGS]) == {str(samples) for samples in new}


def test_a_complete_trial_has_the_score_at_the_plans_highest_rung() -> None:
    """So the best trial is the winner; a stored extrapolation would become outdated."""
    study = search(plan(), table())
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert complete
    for trial in complete:
        assert max(trial.intermediate_values) == plan().answer_rung == FULL
        assert trial.value == trial.intermediate_values[FULL]
    for trial in study.get_trials(states=(TrialState.PRUNED,)):
        assert max(trial.intermediate_values) < FULL
    assert candidate_of(study.best_trial) == plan().winner(study_history(study))


def test_each_new_score_is_told_with_a_history_that_has_it() -> None:
    """As trackers need it; scores that a promoted trial repeats are not told again."""
    measure, told = table(), []

    def scored(candidate: Candidate, history: History) -> None:
        told.append((candidate, history.of(candidate).top))

    new_study(plan()).optimize(Objective(plan(), measure, scored=scored))
    assert told == measure.runs


def test_per_document_values_are_stored_with_the_trial() -> None:
    """Apart from the attributes that a dashboard shows; pairs are compared by them."""
    measure, chosen = table(), plan()
    packed = Answers.of([0.0, 1.0, 1.0], None, "d").packed()
    study = optuna.create_study(direction="maximize", sampler=CkaClusterSampler(chosen))
    study.optimize(Objective(chosen, lambda *job: replace(measure(*job), answers=packed)))
    known = study_history(study).candidates.values()
    assert {m.answers for k in known for m in k.measurements} == {packed}
    assert not any(packed in str(trial.user_attrs) for trial in study.trials)


def test_per_document_values_of_each_task_are_stored_with_the_trial() -> None:
    """And the mean over the tasks, which has none, is read back with them."""
    several, chosen, study = Several(), plan(), new_study(plan())
    packed = {name: Answers.of([0.0, 1.0], None, name).packed() for name in WEIGHTS}

    def measured(candidate: Candidate, samples: int) -> Measurement:
        mean = several(candidate, samples)
        by_task = {n: replace(m, answers=packed[n]) for n, m in mean.by_task.items()}
        return weighted_mean(by_task, WEIGHTS)

    study.optimize(Objective(chosen, measured))
    for record in study_history(study).candidates.values():
        for measurement in record.measurements:
            assert measurement.answers is None
            assert {n: m.answers for n, m in measurement.by_task.items()} == packed
            assert weighted_mean(measurement.by_task, WEIGHTS) == measurement


def test_a_failure_is_stored_with_its_reason_and_the_search_continues() -> None:
    bad, measure, chosen = Candidate("clip", "llama"), table(), plan()

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study = new_study(chosen)
    study.optimize(Objective(chosen, broken), n_trials=100, catch=(TrainingError,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all("loss is nan" in t.user_attrs[FAILURE] for t in failed)
    assert STOPPED_BECAUSE in study.user_attrs
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


def test_an_interrupted_trial_is_continued_from_its_last_score() -> None:
    """A score reported before the interruption is kept and not measured again."""
    measure, chosen = table(), plan(top_clusters=4)

    def interrupt(candidate: Candidate, samples: int) -> Measurement:
        if samples == SAMPLES[1]:
            raise KeyboardInterrupt
        return measure(candidate, samples)

    study = new_study(chosen)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(Objective(chosen, interrupt))
    study.optimize(Objective(chosen, measure))
    assert len(measure.runs) == len(set(measure.runs))
    assert max(samples for _, samples in measure.runs) == FULL
    assert not any(FAILURE in t.user_attrs for t in study.trials)


class Out(LocalClaims):
    """Claims in a database that is away when a claim is released."""

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[HeldClaim | None]:
        """Give a claim and fail to take it back."""
        try:
            with super().hold(candidate, trial) as held:
                yield held
        finally:
            raise StoreError("sqlite:///x", "OperationalError")


def ended(error: BaseException, claims: Claims | None = None) -> tuple[FrozenTrial, BaseException]:
    """The stored trial and the raised error if the first measurement fails after 5 s."""
    chosen, times = plan(), iter((100.0, 105.0))
    study = optuna.create_study(sampler=CkaClusterSampler(chosen), direction="maximize")

    def broken(candidate: Candidate, samples: int) -> Measurement:  # noqa: ARG001
        raise error

    objective = Objective(chosen, broken, claims=claims, clock=lambda: next(times))
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of several kinds
        objective(study.ask())
    return study.trials[0], caught.value


def test_an_outage_is_no_failure_of_the_candidate() -> None:
    """However deep in the chain of causes; the stored reason is that of the outage."""
    error = CheckpointError("/c", "cannot be written (no space left)")
    error.__cause__ = OSError(errno.ENOSPC, "no space left")
    trial, raised = ended(error)
    assert isinstance(raised, InfrastructureError)
    assert trial.user_attrs.keys() == {NAME, INTERRUPTED, LOST_SECONDS}
    assert trial.user_attrs[INTERRUPTED] == str(raised)
    assert "checkpoint '/c': cannot be written" in str(raised)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), LeaseLostError("a + b")])
def test_an_interruption_is_no_failure_of_the_candidate(error: BaseException) -> None:
    trial, raised = ended(error)
    assert raised is error
    assert trial.user_attrs.keys() == {NAME, INTERRUPTED, LOST_SECONDS}


def test_an_outage_during_cleanup_does_not_replace_an_interruption() -> None:
    _, raised = ended(KeyboardInterrupt(), Out())
    assert isinstance(raised, KeyboardInterrupt)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingError(8, "the loss is nan"), "training after 8 samples: the loss is nan"),
        (RuntimeError("size mismatch\nmore"), "RuntimeError: size mismatch"),
    ],
)
def test_a_failure_is_stored_with_the_time_it_took(error: Exception, reason: str) -> None:
    trial, raised = ended(error)
    assert raised is error
    assert trial.user_attrs == {NAME: "clip + llama", FAILURE: reason, LOST_SECONDS: 5.0}
