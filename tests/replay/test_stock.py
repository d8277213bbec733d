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
from mordal_optuna.search.history import History
from mordal_optuna.search.jobs import Finished, Wait
from mordal_optuna.search.plan import next_job, next_rung, wanted_rung
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, RUNGS, measured, table, tree


def stock_plan(budget: float | None = None) -> StockPlan:
    return StockPlan(tree(), (*RUNGS, FULL), Ranker(tree(), FULL), Budget(budget))


def test_the_plan_wants_no_job_until_the_search_is_over() -> None:
    """Candidates climb rung by rung as the stock sampler and pruner choose."""
    plan, pair = stock_plan(), tree().candidates[0]
    scored = measured({pair: RUNGS[0]}, table())
    assert list(plan.jobs(History())) == list(plan.jobs(scored)) == []
    assert next_job(plan, scored) == Wait()
    assert wanted_rung(plan, scored, pair, RUNGS[0]) is None
    assert next_rung(plan, RUNGS[0]) == RUNGS[1]
    done = measured(dict.fromkeys(tree().candidates, FULL), table())
    assert next_job(plan, done) == Finished("pool exhausted: every candidate fully trained")


def test_the_plan_is_finished_once_its_budget_is_spent() -> None:
    scored = measured({tree().candidates[0]: FULL}, table())
    assert next_job(stock_plan(0.001), scored) == Finished("budget spent: 0.001 device-hours")


def test_the_winner_is_the_best_of_those_fully_trained() -> None:
    first, second = tree().candidates[:2]
    history = measured({first: FULL, second: RUNGS[-1]}, table())
    plan = stock_plan()
    assert plan.answer_rung == plan.close_rung == FULL
    assert plan.winner(history) == first
    assert plan.is_settled(history, first)
    assert not plan.is_settled(history, second)


@pytest.mark.parametrize("name", STOCK)
def test_every_pair_runs_each_rung_once_and_ends(name: str) -> None:
    chosen = stock_plan()
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
