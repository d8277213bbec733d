"""One trial: repeat what is known of a candidate, then align it to the next rungs and score it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from optuna import TrialPruned

from mordal_optuna.errors import MordalError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import (
    CONTINUES,
    ESTIMATE,
    FAILURE,
    LLM,
    RUNGS,
    VISION_ENCODER,
    measurement_attributes,
)
from mordal_optuna.search.plan import next_rung
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from optuna import Trial

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory
    from mordal_optuna.search.plan import Plan


class Measure(Protocol):
    """Whatever can train a candidate to a rung and score it there."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Score a candidate after `samples` alignment samples.

        Raises:
            MordalError: if it cannot be trained or scored; the trial then fails with the reason.
        """
        ...


class Objective:
    """An Optuna objective over the pair, for any sampler and pruner.

    Earlier scores of the candidate are reported first, at no cost, so its curve is whole in
    every trial and in the dashboard.
    """

    def __init__(self, plan: Plan, measure: Measure) -> None:
        """Measure candidates along a plan's rungs.

        Args:
            plan: gives the rungs, and says when a candidate is estimated finely enough.
            measure: trains and scores.
        """
        self._plan = plan
        self._measure = measure

    def __call__(self, trial: Trial) -> float:
        """Run one trial.

        Returns:
            The estimate at r = 1, once it is as fine as the plan asks for.

        Raises:
            TrialPruned: if the candidate is stopped before that; it may be promoted later.
            MordalError: if it could not be trained or scored.
        """
        candidate = Candidate(
            trial.suggest_categorical(VISION_ENCODER, self._plan.vision_encoders),
            trial.suggest_categorical(LLM, self._plan.llms),
        )
        known = study_history(trial.study, exclude=trial.number).of(candidate)
        self._repeat(trial, known)
        top = known.top
        while not (top and trial.should_prune()):
            samples = next_rung(self._plan, study_history(trial.study), candidate, top)
            if samples is None:
                break
            self._run(trial, candidate, samples)
            top = samples
        return self._end(trial, candidate)

    def _repeat(self, trial: Trial, known: CandidateHistory) -> None:
        if not known.measurements:
            return
        trial.set_user_attr(CONTINUES, known.last_trial)
        for measurement in known.measurements:
            trial.report(measurement.score, step=measurement.samples)

    def _run(self, trial: Trial, candidate: Candidate, samples: int) -> None:
        try:
            measurement = self._measure(candidate, samples)
        except MordalError as error:
            trial.set_user_attr(FAILURE, str(error))
            raise
        details = dict(trial.user_attrs.get(RUNGS, {}))
        details[str(samples)] = measurement_attributes(measurement)
        # First the details, then the report: a process killed in between leaves no score that
        # lacks its noise.
        trial.set_user_attr(RUNGS, details)
        trial.report(measurement.score, step=samples)

    def _end(self, trial: Trial, candidate: Candidate) -> float:
        history = study_history(trial.study)
        estimate = next(e for e in self._plan.ranking(history) if e.candidate == candidate)
        stored = {k: v for k, v in asdict(estimate).items() if k != "candidate"}
        trial.set_user_attr(ESTIMATE, stored)
        if not self._plan.is_settled(history, candidate):
            raise TrialPruned(f"stopped at {estimate.samples} samples; may be promoted later")
        return estimate.value
