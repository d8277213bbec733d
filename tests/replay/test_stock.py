"""Stock Optuna as a rival: every pair runs, reuses checkpoints and ends."""

from __future__ import annotations

import optuna
import pytest

from mordal_optuna.replay.simulate import Simulation
from mordal_optuna.replay.stock import (
    STOCK,
    StockPlan,
    StockSteering,
    stock_pruner,
    stock_sampler,
)
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, RUNGS, table, tree


@pytest.mark.parametrize("name", STOCK)
def test_every_pair_runs_each_rung_once_and_ends(name: str) -> None:
    chosen = StockPlan(tree(), (*RUNGS, FULL), Ranker(tree(), FULL), Budget(None))
    sampler, pruner = stock_sampler(name, chosen, seed=0), stock_pruner(name, chosen, eta=2)
    assert type(sampler).__module__.startswith("optuna") or "grid" in name
    assert type(pruner).__module__.startswith("optuna.pruners")
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    measure = table()
    found = Simulation(
        study, Objective(chosen, measure), measure, StockSteering(chosen), workers=2
    ).run()
    assert len(found.jobs) == len(set(found.jobs))
    assert found.reason.startswith(("pool exhausted", "20 trials for each"))
    if name.endswith("none"):
        assert {samples for _, samples in found.jobs} == {*RUNGS, FULL}
