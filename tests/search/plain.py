"""Whole searches of plain Optuna, with the README's objective, on drawn tables of scores."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import optuna

from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from tests.search.synthetic import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.plan import Plan


BEST = Candidate("siglip", "qwen")


EVERY_RUNG = (512, 1024, 2048)


def flat(side: int, *, budget: Budget | None = None) -> MordalPlan:
    """The README's plan, in which every pair is a cluster."""
    encoders, llms = [f"e{i}" for i in range(side)], [f"l{i}" for i in range(side)]
    return MordalPlan(ClusterTree.flat(encoders, llms), EVERY_RUNG, 16384, budget=budget)


def drawn(chosen: Plan, seed: int) -> Table:
    """A table with random levels of errors."""
    rng = np.random.default_rng(seed)
    pairs = [Candidate(v, m) for v in chosen.vision_encoders for m in chosen.llms]
    return Table(dict(zip(pairs, rng.uniform(0.1, 0.4, len(pairs)), strict=True)))


def best_of(measure: Table) -> Candidate:
    """The pair with the lowest error."""
    return min(measure.levels, key=measure.levels.__getitem__)


def readme_objective(
    chosen: Plan, measure: Table, *, seconds: float = 0.0
) -> Callable[[optuna.Trial], float]:
    """The README's objective, which trains from scratch in every trial."""

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", chosen.vision_encoders),
            trial.suggest_categorical("llm", chosen.llms),
        )
        score = 0.0
        for samples in chosen.rungs:
            time.sleep(seconds)
            score = measure.score(pair, samples)
            measure.runs.append((pair, samples))
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    return objective


def new_study(chosen: Plan, **given: object) -> optuna.Study:
    """A study with sampler and pruner of a plan, or with the given ones."""
    parts = {"sampler": CkaClusterSampler(chosen), "pruner": LogLinearHalvingPruner(chosen)}
    return optuna.create_study(direction="maximize", **{**parts, **given})


def winner_of(chosen: Plan, study: optuna.Study) -> Candidate:
    """The winner of a finished study."""
    winner = chosen.winner(study_history(study))
    assert winner is not None
    return winner
