"""A small grid of known curves, so that whole searches run in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import optuna

from mordal_optuna.config import SearchSettings
from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import CandidateCluster, ClusterTree, Group
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate


ENCODERS = ("clip", "siglip", "dino")
LLMS = ("llama", "qwen", "mistral")
RUNGS = (256, 512, 1024)
FULL = 8192
DOCUMENTS = 400


def tree() -> ClusterTree:
    """Two vision clusters (clip with siglip, dino alone), two LLM clusters in each."""
    groups = [Group(("clip", "siglip")), Group(("dino",))]
    llms = [Group(("llama", "qwen")), Group(("mistral",))]
    return ClusterTree(ENCODERS, LLMS, tuple(CandidateCluster(v, m) for v in groups for m in llms))


MEDOIDS = [cluster.candidates[0] for cluster in tree().clusters]


def plan(
    *,
    top_clusters: int = 2,
    finalists: int = 1,
    race: tuple[int, ...] = (),
    train_winner: bool = False,
    budget: Budget | None = None,
) -> MordalPlan:
    """The paper's plan over that tree, K = 2, one finalist unless told otherwise."""
    finish = Finish(finalists, race, train_winner=train_winner)
    return MordalPlan(tree(), RUNGS, FULL, top_clusters=top_clusters, finish=finish, budget=budget)


@dataclass
class Table:
    """Log-linear curves: error = level * (samples / FULL) ** slope, by candidate.

    Attributes:
        runs: every (candidate, samples) that was measured, in order.
    """

    levels: dict[Candidate, float]
    slope: float = -0.3
    runs: list[tuple[Candidate, int]] = field(default_factory=list)

    def score(self, candidate: Candidate, samples: int) -> float:
        """The curve itself, without noise."""
        return 1 - self.levels[candidate] * (samples / FULL) ** self.slope

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, as the objective asks for it."""
        self.runs.append((candidate, samples))
        score = self.score(candidate, samples)
        noise = (score * (1 - score) / DOCUMENTS) ** 0.5
        return Measurement(samples, score, noise, DOCUMENTS, samples / 100, 1.0)


def table() -> Table:
    """The best is siglip + qwen; dino and mistral are worse than the others."""
    encoder = {"clip": 1.1, "siglip": 1.0, "dino": 1.5}
    llm = {"llama": 0.19, "qwen": 0.16, "mistral": 0.23}
    return Table({Candidate(v, m): encoder[v] * llm[m] for v in ENCODERS for m in LLMS})


def search(
    chosen: Plan,
    measure: Table,
    storage: str | optuna.storages.BaseStorage | None = None,
    *,
    n_trials: int = 200,
) -> optuna.Study:
    """Run a plan to its own end, or for so many trials."""
    study = optuna.create_study(
        study_name="synthetic",
        storage=storage,
        direction="maximize",
        sampler=CkaClusterSampler(chosen, seed=0),
        pruner=LogLinearHalvingPruner(chosen),
        load_if_exists=True,
    )
    study.optimize(Objective(chosen, measure), n_trials=n_trials)
    return study


def believed(ranking: Sequence[Estimate]) -> list[Estimate]:
    """A ranking without what it cost, to which failures and lost workers add."""
    return [replace(estimate, seconds=0.0) for estimate in ranking]


def measured(tops: dict[Candidate, int], measure: Table) -> History:
    """Every candidate scored on all rungs up to the given one."""
    histories = {}
    for candidate, top in tops.items():
        rungs = [rung for rung in (*RUNGS, FULL) if rung <= top]
        histories[candidate] = CandidateHistory(tuple(measure(candidate, r) for r in rungs))
    return History(histories)


def runs_at(measure: Table, samples: int) -> list[Candidate]:
    """The candidates that were scored at a rung, in order."""
    return [candidate for candidate, at in measure.runs if at == samples]


def close_table() -> Table:
    """Four candidates within noise of one another at R, the first slightly better."""
    measure = table()
    for number, candidate in enumerate(tree().clusters[0].candidates):
        measure.levels[candidate] = 0.16 + 0.001 * number
    return measure


def settings(method: str, **options: object) -> SearchSettings:
    """Options of a search with b = .03 and R = 1/8."""
    return SearchSettings.model_validate(
        {"method": method, "first_ratio": 0.03, "max_ratio": 0.125, **options}
    )


def history_up_to(tops: dict[tuple[str, str], int]) -> History:
    """Pairs of the synthetic table scored on all rungs up to the given ones."""
    return measured({Candidate(*pair): top for pair, top in tops.items()}, table())


def by_pair(estimates: tuple[Estimate, ...]) -> dict[tuple[str, str], Estimate]:
    """Estimates by names of encoder and LLM."""
    return {(e.candidate.vision_encoder, e.candidate.llm): e for e in estimates}
