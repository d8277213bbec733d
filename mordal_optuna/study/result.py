"""The result of a study, read from its storage alone."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
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
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.standings import in_order, standings
from mordal_optuna.study.warnings import doubts, stored_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Fit, Measurement
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Group, Standing


@dataclass(frozen=True)
class Representation:
    """What was found out about the models before any was trained.

    Attributes:
        vision_similarity: encoders x encoders, in the pool's order.
        llm_similarity: LLMs x LLMs, by the medoid encoder whose embeddings were fed.
        tree: the clusters.
        seconds: device-seconds, by part: features, similarity, warmup.
    """

    vision_similarity: tuple[tuple[float, ...], ...]
    llm_similarity: Mapping[str, tuple[tuple[float, ...], ...]]
    tree: ClusterTree
    seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as stored with the study."""
        return {
            "vision_similarity": [list(row) for row in self.vision_similarity],
            "llm_similarity": {k: [list(r) for r in v] for k, v in self.llm_similarity.items()},
            "tree": self.tree.to_json(),
            "seconds": dict(self.seconds),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Representation:
        """Inverse of `to_json`."""
        return Representation(
            tuple(tuple(row) for row in content["vision_similarity"]),
            {k: tuple(tuple(r) for r in v) for k, v in content["llm_similarity"].items()},
            ClusterTree.from_json(content["tree"]),
            content["seconds"],
        )


def store_representation(study: Study, representation: Representation) -> None:
    """Keep what was found out about the models with the study."""
    store_value(study, REPRESENTATION, representation.to_json())


def stored_representation(study: Study) -> Representation | None:
    """What `store_representation` kept, by this version or an older one; None before that."""
    found = stored_value(study.user_attrs, REPRESENTATION)
    return Representation.from_json(found) if found else None


@dataclass(frozen=True)
class FurtherScore:
    """The winner's score on a task it was not chosen for.

    Attributes:
        task: lmms-eval name.
        value: 0..1.
        stderr: standard error of the value.
        documents: documents scored.
        samples: alignment samples of the checkpoint that was scored.
        guessed: share of answers that the task could not read and drew at random; None where it
            never does.
    """

    task: str
    value: float
    stderr: float
    documents: int
    samples: int
    guessed: float | None = None


@dataclass(frozen=True)
class Costs:
    """Device-seconds, by what they were spent on.

    Attributes:
        features: of the models that are compared.
        similarity: of those features.
        warmup: of projectors, to compare LLMs.
        training: up to the highest rung of each candidate.
        evaluation: all scores.
        lost: trials that failed or whose worker was lost, beside what their scores tell; and
            trials of objectives that tell no seconds.
        reused: what checkpoints and scores cost that another study had left; not spent again.
    """

    features: float
    similarity: float
    warmup: float
    training: float
    evaluation: float
    lost: float = 0.0
    reused: float = 0.0

    @property
    def total(self) -> float:
        """All that was spent."""
        return sum(getattr(self, p.name) for p in fields(self) if p.name != "reused")


@dataclass(frozen=True)
class Challenger:
    """A pair that is estimated above the winner, and was trained on fewer samples.

    Attributes:
        estimate: what is believed of it.
        seconds: device-seconds to train it as far as the winner and score it there; None where
            no costs are known.
    """

    estimate: Estimate
    seconds: float | None


@dataclass(frozen=True)
class StudyResult:
    """Everything a person is shown of a study.

    Attributes:
        study: its name.
        task: the target task.
        method: how it was searched.
        ranking: the whole pool as it is shown: the winner, those within noise of it, those that
            may be the best, those hardly tested, those that are worse.
        winner: the best of those measured at the highest rung that the plan asks for.
        final: whether there is such a pair; else the winner is who leads so far.
        standings: of each pair beside the winner, and why.
        challengers: those that are estimated above the winner, the most probable best first.
        settling_seconds: device-seconds to train all that are within noise of the winner on all
            of D, and to score them; 0 where all are, None where no costs are known.
        curves: scores by ascending samples, by candidate.
        fits: fitted curves, where there are enough points.
        full_samples: D.
        costs: what the study spent.
        full_run_seconds: mean device-seconds of one full alignment with one evaluation, over the
            candidates trained so far, each scaled from its own highest rung; None where no score
            came with its device-seconds, as in an objective that reports none.
        stopped_because: why the search ended; None while it has not.
        representation: similarities and clusters; None where the method needs none.
        further_scores: the winner on other tasks.
        failures: reason of the last failure, of candidates that did not succeed after it.
        config: the resolved study file.
        warnings: reasons to doubt the result, a sentence each, the gravest first.
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
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def measured(self) -> Measurement:
        """The winner's score at the highest rung that it was trained to."""
        return self.curves[self.winner.candidate][-1]

    def group(self, group: Group) -> tuple[Estimate, ...]:
        """The pairs of a group, in the ranking's order."""
        return tuple(e for e in self.ranking if self.standings[e.candidate].group == group)

    @property
    def full_runs(self) -> float | None:
        """Cost of the study in full alignments; None where it is not known."""
        return self.in_full_runs(self.costs.total)

    def in_full_runs(self, seconds: float) -> float | None:
        """Device-seconds in full alignments; None where the cost of one is not known."""
        return None if self.full_run_seconds is None else seconds / self.full_run_seconds

    @property
    def grid_runs(self) -> int:
        """Cost of the grid in full alignments: one per candidate."""
        return len(self.ranking)


def read_result(study: Study, plan: Plan, *, method: str, task: str) -> StudyResult:
    """Put together what a study has found.

    Args:
        study: at least one candidate must have been scored.
        plan: the plan it was run with.
        method: name of that plan.
        task: name of the target task.

    Raises:
        SearchError: if no candidate was scored.
    """
    history = study_history(study)
    winner = plan.winner(history)
    if winner is None:
        raise SearchError(
            f"study {study.study_name!r} has no score yet; a result needs at least one"
        )
    posterior = plan.ranker.posterior(history)
    ranking = plan.ranker.rank_with_chances(history, posterior)
    stand = standings(plan, history, ranking, winner, run_noise=posterior.run_noise)
    shown = in_order(ranking, stand, winner)
    representation = stored_representation(study)
    curves = {c: h.measurements for c, h in history.candidates.items() if h.measurements}
    return StudyResult(
        study=study.study_name,
        task=task,
        method=method,
        ranking=shown,
        winner=shown[0],
        final=plan.answer(history, winner) is not None,
        standings=stand,
        challengers=_challengers(plan, history, shown),
        settling_seconds=_settling_seconds(plan, history, stand),
        curves=curves,
        fits=plan.ranker.fits(history),
        full_samples=plan.rungs[-1],
        costs=_costs(history, representation),
        full_run_seconds=full_run_seconds(history, plan.rungs[-1]),
        stopped_because=study.user_attrs.get(STOPPED_BECAUSE),
        representation=representation,
        further_scores=_further_scores(study.user_attrs.get(FURTHER_SCORES) or ()),
        failures={
            c: h.failure for c, h in history.candidates.items() if h.failure and _is_failing(h)
        },
        config=stored_value(study.user_attrs, CONFIG) or {},
        warnings=doubts(curves, winner, stored_facts(study.user_attrs), plan.rungs[-1]),
    )


def full_run_seconds(history: History, full_samples: int) -> float | None:
    """Mean device-seconds of training one candidate on all samples and scoring it once.

    None where no score came with its device-seconds.
    """
    runs = []
    for known in history.candidates.values():
        if known.measurements:
            top = known.measurements[-1]
            evaluation = float(np.mean([m.eval_seconds for m in known.measurements]))
            runs.append(top.train_seconds * full_samples / top.samples + evaluation)
    return float(np.mean(runs)) if any(runs) else None


def further_seconds(history: History, candidate: Candidate, samples: int) -> float | None:
    """Device-seconds to train a candidate on to a rung and score it there; 0 if it was.

    By what its own samples took, or where it was never trained those of the pool on average. None
    where no score came with its device-seconds.
    """
    known = history.of(candidate)
    if known.at(samples):
        return 0.0
    told = [k for k in history.candidates.values() if k.train_seconds]
    own = [known] if known.train_seconds else told
    if not own:
        return None
    training = sum(k.train_seconds for k in own) / sum(k.top for k in own)
    scores = sum(len(k.measurements) for k in own)
    evaluation = sum(k.eval_seconds for k in own) / scores
    return training * (samples - known.top) + evaluation


def _challengers(
    plan: Plan, history: History, shown: Sequence[Estimate]
) -> tuple[Challenger, ...]:
    """Those estimated above the winner that were trained on fewer samples than it."""
    winner = shown[0]
    above = [e for e in shown if e.value > winner.value and e.samples < winner.samples]
    return tuple(
        Challenger(e, further_seconds(history, e.candidate, plan.answer_rung))
        for e in sorted(above, key=lambda e: -(e.best or 0.0))
    )


def _settling_seconds(
    plan: Plan, history: History, stand: Mapping[Candidate, Standing]
) -> float | None:
    tied = [candidate for candidate, standing in stand.items() if standing.group == "tied"]
    if len(tied) == 1:
        return 0.0
    each = [further_seconds(history, candidate, plan.rungs[-1]) for candidate in tied]
    known = [seconds for seconds in each if seconds is not None]
    return sum(known) if len(known) == len(each) else None


def _is_failing(known: CandidateHistory) -> bool:
    """Whether its last failure was not followed by a score."""
    return known.last_failure is not None and known.last_failure > (known.last_trial or -1)


def _costs(history: History, representation: Representation | None) -> Costs:
    before = representation.seconds if representation else {}
    known = history.candidates.values()
    return Costs(
        features=float(before["features"]) if before else 0.0,
        similarity=float(before["similarity"]) if before else 0.0,
        warmup=float(before["warmup"]) if before else 0.0,
        training=sum(h.train_spent for h in known),
        evaluation=sum(h.eval_spent for h in known),
        lost=sum(h.other_seconds for h in known),
        reused=sum(h.train_seconds - h.train_spent + h.eval_seconds - h.eval_spent for h in known),
    )


def _further_scores(scores: Sequence[Mapping[str, Any]]) -> tuple[FurtherScore, ...]:
    return tuple(FurtherScore(**score) for score in scores)
