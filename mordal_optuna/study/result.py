"""The result of a study, computed from its stored trials and attributes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.attributes import (
    CONFIG,
    FURTHER_SCORES,
    REPRESENTATION,
    STOPPED_BECAUSE,
    store_value,
    stored_value,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import DEATHS_PER_ATTEMPT
from mordal_optuna.search.jobs import usable
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.standings import in_order, standings
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.origin import Origin, stored_origin
from mordal_optuna.study.task_results import task_results, unbeaten
from mordal_optuna.study.times import Times, times
from mordal_optuna.study.warnings import result_warnings, stored_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Fit
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Group, Standing
    from mordal_optuna.study.task_results import TaskResult


# Why a pair without a failure was given up.
_STOPPED = "stopped repeatedly before the rung that the search had asked for"


@dataclass(frozen=True)
class Representation:
    """Similarities and clusters of the pool's models, computed before any pair is trained.

    Attributes:
        vision_similarity: CKA of the vision encoders, encoders x encoders, in the pool's order.
        llm_similarity: CKA of the LLMs, LLMs x LLMs, by the medoid encoder whose embeddings the
            LLMs were fed.
        tree: clusters of vision encoders and, inside each, of LLMs.
        seconds: device-seconds by part: `features`, `similarity` and `warmup`.
        reused: device-seconds of features and projectors that a study which this one extends has
            paid for; not part of `seconds`.
    """

    vision_similarity: tuple[tuple[float, ...], ...]
    llm_similarity: Mapping[str, tuple[tuple[float, ...], ...]]
    tree: ClusterTree
    seconds: Mapping[str, float]
    reused: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, as stored with the study."""
        return {
            "vision_similarity": [list(row) for row in self.vision_similarity],
            "llm_similarity": {k: [list(r) for r in v] for k, v in self.llm_similarity.items()},
            "tree": self.tree.to_json(),
            "seconds": dict(self.seconds),
            "reused": self.reused,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Representation:
        """Inverse of `to_json`; older versions did not store `reused`."""
        return Representation(
            tuple(tuple(row) for row in content["vision_similarity"]),
            {k: tuple(tuple(r) for r in v) for k, v in content["llm_similarity"].items()},
            ClusterTree.from_json(content["tree"]),
            content["seconds"],
            content.get("reused", 0.0),
        )


def store_representation(study: Study, representation: Representation) -> None:
    """Store the comparison of the models with the study."""
    store_value(study, REPRESENTATION, representation.to_json())


def stored_representation(study: Study) -> Representation | None:
    """The comparison stored by this version or an older one; None before it was stored."""
    content = stored_value(study.user_attrs, REPRESENTATION)
    return Representation.from_json(content) if content else None


@dataclass(frozen=True)
class FurtherScore:
    """The winner's score on a task other than the one it was chosen for.

    A `Measurement` does not name its task, since all those of a search are of the target task.

    Attributes:
        task: name of the lmms-eval task.
        measurement: score on that task, with the samples of the checkpoint that was scored; costs
            and likelihoods are not stored.
    """

    task: str
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored with the study and printed by `mordal run --json`."""
        scored = self.measurement
        return {
            "task": self.task,
            "value": scored.score,
            "stderr": scored.stderr,
            "documents": scored.documents,
            "samples": scored.samples,
            "guessed": scored.guessed,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> FurtherScore:
        """Inverse of `to_json`; older versions did not store `guessed`."""
        measurement = Measurement(
            samples=content["samples"],
            score=content["value"],
            stderr=content["stderr"],
            documents=content["documents"],
            guessed=content.get("guessed"),
        )
        return FurtherScore(content["task"], measurement)


@dataclass(frozen=True)
class Challenger:
    """A pair that is estimated above the winner but was trained on fewer samples.

    Attributes:
        estimate: estimated score of the pair after all D samples, with its interval.
        seconds: device-seconds to train the pair up to the winner's rung and score it there; None
            if no costs are known.
    """

    estimate: Estimate
    seconds: float | None


@dataclass(frozen=True)
class StudyResult:
    """The result of a study: winner, ranking, curves, costs and warnings.

    Scores, estimates and probabilities are on 0..1, costs in device-seconds. D is the number of
    alignment samples of a full alignment.

    Attributes:
        study: name of the study.
        task: name of the target task, or of the mean over several, such as "the mean of gqa and
            ai2d".
        method: name of the search method.
        ranking: estimates of all pairs, winner first, then by group: tied, open, untested, worse
            (see `search.standings.Group`).
        winner: estimate of the best pair measured at the highest rung that the plan asks for.
        final: whether such a pair exists; otherwise `winner` is the best pair so far.
        standings: comparison of each pair with the winner, and the group that follows from it.
        challengers: pairs estimated above the winner and trained on fewer samples, in descending
            order of their probability of being the best.
        settling_seconds: device-seconds to train all pairs of the group `tied` on all D samples
            and score them; 0 if all are, None if no costs are known.
        curves: measurements of each trained pair, by ascending samples.
        fits: fitted learning curve of each pair with enough points.
        full_samples: D.
        costs: device-seconds the study spent, by part.
        full_run_seconds: mean device-seconds of one full alignment with one evaluation, over the
            pairs trained so far, each extrapolated from its highest rung. None if no score came
            with its cost, as in objectives that report none.
        stopped_because: reason why the search ended; None while it has not.
        representation: similarities and clusters of the models; None if the method needs none.
        further_scores: scores of the winner on other tasks.
        failures: reason of the last failure, for pairs without a score after it.
        given_up: why each pair that has failed as often as the study allows was given up; these
            pairs come last in the ranking.
        config: resolved study file; empty for studies of plain Optuna.
        warnings: reasons to doubt the result, one sentence each, most serious first.
        tasks: result on each of several target tasks, whose weighted mean all other values are
            about; empty if there is one.
        unbeaten: pairs that no other pair beats on all tasks, by their estimates; empty if there
            is one task.
        times: device-seconds by what the device did, and the speed of the training.
        origin: versions, commits, digests and prompts that the study was made with.
    """

    study: str
    task: str
    method: str
    ranking: tuple[Estimate, ...]
    winner: Estimate
    final: bool
    standings: Mapping[Candidate, Standing]
    challengers: tuple[Challenger, ...]
    settling_seconds: float | None
    curves: Mapping[Candidate, tuple[Measurement, ...]]
    fits: Mapping[Candidate, Fit]
    full_samples: int
    costs: Costs
    full_run_seconds: float | None
    stopped_because: str | None
    representation: Representation | None = None
    further_scores: tuple[FurtherScore, ...] = ()
    failures: Mapping[Candidate, str] = field(default_factory=dict)
    given_up: Mapping[Candidate, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tasks: tuple[TaskResult, ...] = ()
    unbeaten: tuple[Candidate, ...] = ()
    times: Times = field(default_factory=Times)
    origin: Origin = field(default_factory=Origin)

    @property
    def measured(self) -> Measurement:
        """The winner's measurement at its highest rung."""
        return self.curves[self.winner.candidate][-1]

    def group(self, group: Group) -> tuple[Estimate, ...]:
        """The pairs of one group, in the order of the ranking."""
        return tuple(e for e in self.ranking if self.standings[e.candidate].group == group)

    @property
    def full_runs(self) -> float | None:
        """Cost of the study in full alignments; None if it is not known."""
        return self.in_full_runs(self.costs.total)

    def in_full_runs(self, seconds: float) -> float | None:
        """Convert device-seconds to full alignments; None if the cost of one is not known."""
        return None if self.full_run_seconds is None else seconds / self.full_run_seconds

    @property
    def grid_runs(self) -> int:
        """Cost of training every pair fully, in full alignments: one per pair."""
        return len(self.ranking)


def read_result(
    study: Study,
    plan: Plan,
    *,
    method: str,
    task: str,
    tasks: Mapping[str, float] | None = None,
) -> StudyResult:
    """Read the result of a study from its storage.

    Args:
        study: study with at least one score.
        plan: plan the study was run with.
        method: name of the search method, for display.
        task: name of the target task, for display.
        tasks: weight of each target task by its name, if there are several; None otherwise.

    Raises:
        SearchError: if the study has no score.
    """
    history = study_history(study)
    winner = plan.winner(history)
    if winner is None:
        raise SearchError(
            f"study {study.study_name!r} has no score yet; a result needs at least one"
        )
    posterior = plan.ranker.posterior(history)
    given_up = {
        c: h.failure or _STOPPED
        for c, h in history.candidates.items()
        if c != winner and not usable(h)
    }
    ranking = plan.ranker.rank_with_chances(history, posterior, given_up)
    compared = standings(
        plan,
        history,
        ranking,
        winner,
        run_noise=posterior.run_noise,
        weights=tasks,
        given_up=given_up,
    )
    ordered = in_order(ranking, compared, winner)
    representation = stored_representation(study)
    curves = {c: h.measurements for c, h in history.candidates.items() if h.measurements}
    by_task = task_results(plan, history, tasks, winner, given_up) if tasks else ()
    return StudyResult(
        study=study.study_name,
        task=task,
        method=method,
        ranking=ordered,
        winner=ordered[0],
        final=plan.answer(history, winner) is not None,
        standings=compared,
        challengers=_challengers(plan, history, ordered),
        settling_seconds=_settling_seconds(plan, history, compared),
        curves=curves,
        fits=plan.ranker.fits(history),
        full_samples=plan.rungs[-1],
        costs=costs_so_far(history, representation),
        full_run_seconds=full_run_seconds(history, plan.rungs[-1]),
        stopped_because=study.user_attrs.get(STOPPED_BECAUSE),
        representation=representation,
        further_scores=tuple(
            map(FurtherScore.from_json, study.user_attrs.get(FURTHER_SCORES) or ())
        ),
        failures={
            c: h.failure for c, h in history.candidates.items() if h.failure and _is_failing(h)
        },
        given_up=given_up,
        config=stored_value(study.user_attrs, CONFIG) or {},
        warnings=result_warnings(curves, winner, stored_facts(study.user_attrs), plan.rungs[-1]),
        tasks=by_task,
        unbeaten=unbeaten(by_task) if by_task else (),
        times=_times(history, representation),
        origin=stored_origin(study.user_attrs),
    )


def full_run_seconds(history: History, full_samples: int) -> float | None:
    """Mean device-seconds of training one candidate on all samples and scoring it once.

    Args:
        history: measurements of all candidates.
        full_samples: D.

    Returns:
        The mean over trained candidates; None if no score came with its cost.
    """
    runs = []
    for candidate in history.candidates.values():
        if candidate.measurements:
            evaluation = float(np.mean([m.eval_seconds for m in candidate.measurements]))
            runs.append(candidate.train_seconds * full_samples / candidate.top + evaluation)
    return float(np.mean(runs)) if any(runs) else None


def further_seconds(history: History, candidate: Candidate, samples: int) -> float | None:
    """Expected device-seconds to train a candidate on to a rung and score it there.

    The cost per sample is that of the candidate's own training; for a candidate that was never
    trained it is the mean over the pool.

    Args:
        history: measurements of all candidates.
        candidate: pair to train.
        samples: number of alignment samples at the rung.

    Returns:
        The cost; 0 if the candidate was scored at that rung, None if no score came with its cost.
    """
    record = history.of(candidate)
    if record.at(samples):
        return 0.0
    priced = [other for other in history.candidates.values() if other.train_seconds]
    basis = [record] if record.train_seconds else priced
    if not basis:
        return None
    training = sum(b.train_seconds for b in basis) / sum(b.top for b in basis)
    # A rung that was scored on some of several tasks says little about the cost of all of them.
    whole = [r for r in basis if r.measurements] or [r for r in priced if r.measurements]
    seconds = [m.eval_seconds for r in whole for m in r.measurements]
    evaluation = sum(seconds) / (len(seconds) or 1)
    return training * (samples - record.top) + evaluation


def _challengers(
    plan: Plan, history: History, ranking: Sequence[Estimate]
) -> tuple[Challenger, ...]:
    winner = ranking[0]
    above = [
        e
        for e in ranking
        if e.value > winner.value
        and e.samples < winner.samples
        and (e.candidate == winner.candidate or usable(history.of(e.candidate)))
    ]
    return tuple(
        Challenger(e, further_seconds(history, e.candidate, plan.answer_rung))
        for e in sorted(above, key=lambda e: -(e.best or 0.0))
    )


def _settling_seconds(
    plan: Plan, history: History, compared: Mapping[Candidate, Standing]
) -> float | None:
    tied = [candidate for candidate, standing in compared.items() if standing.group == "tied"]
    if len(tied) == 1:
        return 0.0
    costs = [further_seconds(history, candidate, plan.rungs[-1]) for candidate in tied]
    known = [seconds for seconds in costs if seconds is not None]
    return sum(known) if len(known) == len(costs) else None


def _is_failing(record: CandidateHistory) -> bool:
    """Whether no score followed the candidate's last failure, or its workers died too often."""
    if record.deaths >= DEATHS_PER_ATTEMPT * record.attempts:
        return True
    return record.last_failure is not None and record.last_failure > (record.last_trial or -1)


def _times(history: History, representation: Representation | None) -> Times:
    rungs = [
        m
        for record in history.candidates.values()
        for m in record.rungs
        if m.samples not in record.carried
    ]
    return times(rungs, sum(representation.seconds.values()) if representation else 0.0)


def costs_so_far(history: History, representation: Representation | None) -> Costs:
    """Device-seconds that a study has spent, by part.

    Args:
        history: history of the study.
        representation: comparison of the models; None if the method has none, or none yet.
    """
    before = representation.seconds if representation else {}
    records = history.candidates.values()
    return Costs(
        features=float(before["features"]) if before else 0.0,
        similarity=float(before["similarity"]) if before else 0.0,
        warmup=float(before["warmup"]) if before else 0.0,
        training=sum(r.train_spent for r in records),
        evaluation=sum(r.eval_spent for r in records),
        lost=sum(r.other_seconds for r in records),
        reused=(representation.reused if representation else 0.0)
        + sum(r.train_seconds - r.train_spent + r.eval_seconds - r.eval_spent for r in records),
    )
