"""The pruner: it only reads, and works beside any sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.samplers import GridSampler, RandomSampler, TPESampler

from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.objective import Objective
from tests.search.plain import drawn, flat, new_study, readme_objective
from tests.search.synthetic import ENCODERS, FULL, LLMS, RUNGS, plan, table

if TYPE_CHECKING:
    from mordal_optuna.search.plan import Plan


def test_stops_at_the_first_rung_until_the_rung_is_whole() -> None:
    chosen = plan()
    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    trial = study.ask()
    trial.suggest_categorical("vision_encoder", ENCODERS)
    trial.suggest_categorical("llm", LLMS)
    assert not trial.should_prune()  # nothing reported yet
    trial.report(0.4, RUNGS[0])
    assert trial.should_prune()


def test_prune_writes_nothing() -> None:
    chosen = plan()
    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    trial = study.ask()
    trial.suggest_categorical("vision_encoder", ENCODERS)
    trial.suggest_categorical("llm", LLMS)
    trial.report(0.4, RUNGS[0])
    before = (study.user_attrs, repr(study.trials))
    trial.should_prune()
    assert (study.user_attrs, repr(study.trials)) == before


def test_trials_without_the_pair_are_never_pruned() -> None:
    study = optuna.create_study(direction="maximize", pruner=LogLinearHalvingPruner(plan()))
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.1, 1)
    assert not trial.should_prune()


def test_with_tpe_the_pruner_saves_and_the_best_still_wins() -> None:
    """TPE proposes, our pruner stops: the best pair is found without training everyone fully."""
    measure = table()
    study = optuna.create_study(
        direction="maximize", sampler=TPESampler(seed=0), pruner=LogLinearHalvingPruner(plan())
    )
    study.optimize(Objective(plan(), measure), n_trials=80)
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")
    assert sum(samples == FULL for _, samples in measure.runs) < len(ENCODERS) * len(LLMS)


def test_ten_lines_of_plain_optuna() -> None:
    """The objective of a user who reuses no checkpoints: every trial trains from the start."""
    measure, chosen = table(), plan()

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        score = 0.0
        for samples in chosen.rungs:
            score = measure.score(pair, samples)
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    study.optimize(objective, n_trials=100)
    assert len(study.trials) < 100  # it stops by itself
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


SIDE = 7


def sampler_named(name: str, chosen: Plan, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed)
    if name == "random":
        return RandomSampler(seed=seed)
    space = {"vision_encoder": chosen.vision_encoders, "llm": chosen.llms}
    return GridSampler(space, seed=seed)


@pytest.mark.parametrize("name", ["tpe", "random", "grid"])
@pytest.mark.parametrize("seed", range(3))
def test_beside_stock_samplers_the_pruner_never_excludes_the_best(name: str, seed: int) -> None:
    """A sampler may propose a pair once only: the best of all is then let through at once."""
    chosen = flat(SIDE)
    measure = drawn(chosen, seed)
    study = new_study(chosen, sampler=sampler_named(name, chosen, seed))
    study.optimize(readme_objective(chosen, measure), n_trials=120)
    tried = {candidate_of(t) for t in study.trials}
    best = min(tried, key=measure.levels.__getitem__)
    assert study_history(study).of(best).top == chosen.rungs[-1]
    assert candidate_of(study.best_trial) == best
    assert sum(samples == 16384 for _, samples in measure.runs) < len(study.trials) / 2
