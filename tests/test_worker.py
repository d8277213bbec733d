"""A worker: runs to the plan's end, survives failures, clears away what the dead have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import ConfigError, TrainingError
from mordal_optuna.objective import Objective
from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import FAILURE, candidate_of
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import STOPPED_BECAUSE, CkaClusterSampler
from mordal_optuna.store import ClaimStore
from mordal_optuna.worker import Worker
from tests.search.synthetic import ENCODERS, LLMS, plan, search, table

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

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def claims(self) -> ClaimStore:
        """Of another worker."""
        return ClaimStore(self.address, "s", lease_seconds=60, clock=lambda: self.now)

    def worker(self, measure: Measure, patience: float = 30.0) -> Worker:
        """A worker of its own."""
        claims = self.claims()
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
    trials, other = [], setting.claims()
    for _ in range(4):
        trial = setting.study.ask()
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        assert other.acquire(pair, trial.number)
        trials.append(trial.number)
    measure = table()
    setting.worker(measure).run()
    assert setting.now >= 60
    assert [setting.study.trials[n].state for n in trials] == [TrialState.FAIL] * 4
    assert not any(FAILURE in setting.study.trials[n].user_attrs for n in trials)
    assert len(measure.runs) == len(set(measure.runs))
    assert candidate_of(setting.study.best_trial) == Candidate("siglip", "qwen")


def test_trials_without_a_claim_are_given_up_after_the_patience(setting: Setting) -> None:
    """A worker died between choosing a candidate and claiming it."""
    for _ in range(4):
        trial = setting.study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
    setting.worker(table(), patience=30).run()
    assert 30 <= setting.now < 60
    assert [t.state for t in setting.study.trials[:4]] == [TrialState.FAIL] * 4


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
