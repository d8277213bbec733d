"""The result of a study, read from its storage alone."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.doubts import doubts, stored_facts
from mordal_optuna.search.sampler import STOPPED_BECAUSE, study_history
from mordal_optuna.search.stored import store_value, stored_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Fit, Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

# User attributes of a study.
CONFIG = "mordal:config"
REPRESENTATION = "mordal:representation"
FURTHER_SCORES = "mordal:further_scores"


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
    """

    features: float
    similarity: float
    warmup: float
    training: float
    evaluation: float
    lost: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True)
class StudyResult:
    """Everything a person is shown of a study.

    Attributes:
        study: its name.
        task: the target task.
        method: how it was searched.
        ranking: the whole pool, best first.
        winner: the best of those that the search has looked at closely.
        tie_set: those that cannot be told from the best of the ranking.
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
        failures: reason of the last failure, by candidate.
        config: the resolved study file.
        warnings: reasons to doubt the result, a sentence each, the gravest first.
    """

    study: str
    task: str
    method: str
    ranking: tuple[Estimate, ...]
    winner: Estimate
    tie_set: tuple[Candidate, ...]
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
    ranking = plan.ranking(history)
    winner = plan.winner(history)
    if winner is None:
        raise SearchError(
            f"study {study.study_name!r} has no score yet; a result needs at least one"
        )
    representation = stored_representation(study)
    curves = {c: h.measurements for c, h in history.candidates.items() if h.measurements}
    return StudyResult(
        study=study.study_name,
        task=task,
        method=method,
        ranking=ranking,
        winner=winner,
        tie_set=tuple(e.candidate for e in plan.ranker.tie_set(ranking)),
        curves=curves,
        fits=plan.ranker.fits(history),
        full_samples=plan.rungs[-1],
        costs=_costs(history, representation),
        full_run_seconds=full_run_seconds(history, plan.rungs[-1]),
        stopped_because=study.user_attrs.get(STOPPED_BECAUSE),
        representation=representation,
        further_scores=_further_scores(study.user_attrs.get(FURTHER_SCORES) or ()),
        failures={c: h.failure for c, h in history.candidates.items() if h.failure},
        config=stored_value(study.user_attrs, CONFIG) or {},
        warnings=doubts(curves, winner.candidate, stored_facts(study.user_attrs), plan.rungs[-1]),
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


def _costs(history: History, representation: Representation | None) -> Costs:
    before = representation.seconds if representation else {}
    known = history.candidates.values()
    return Costs(
        features=float(before["features"]) if before else 0.0,
        similarity=float(before["similarity"]) if before else 0.0,
        warmup=float(before["warmup"]) if before else 0.0,
        training=sum(h.train_seconds for h in known),
        evaluation=sum(h.eval_seconds for h in known),
        lost=sum(h.other_seconds for h in known),
    )


def _further_scores(scores: Sequence[Mapping[str, Any]]) -> tuple[FurtherScore, ...]:
    return tuple(FurtherScore(**score) for score in scores)
