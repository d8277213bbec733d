"""Building plans: every method by its name, with budgets, copies, and options."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import optuna
import pytest

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.jobs import Finished
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import FULL, search, settings, table, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.search.history import History
    from mordal_optuna.search.plan import Plan


def test_every_method_keeps_to_its_budget() -> None:
    """It may go over by the job that is under way."""
    seconds = 3 * FULL / 100
    for method in METHODS:
        chosen = settings(method, device_hours=seconds / 3600, top_clusters=4)
        plan = build_plan(chosen, tree(), FULL, spent_seconds=5.0)
        study = search(plan, table())
        spent = 5.0 + study_history(study).seconds
        assert spent < seconds + FULL / 100 + 1, method
        if method in ("grid", "random", "best-parts"):
            assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_a_copied_or_pickled_plan_searches_on_as_the_first_would(
    method: str, copied: Callable[[Plan], Plan]
) -> None:
    """After the first has been asked everything, so that whatever it remembers is there."""
    first = build_plan(settings(method), tree(), FULL)
    history = study_history(search(first, table(), n_trials=4))
    before = answers(first, history)
    second = copied(first)
    assert second.ranker is not first.ranker
    assert answers(second, history) == answers(first, history) == before
    assert vars(second.ranker).keys() == vars(first.ranker).keys()
    own = {id(part) for part in vars(first.ranker).values() if callable(part)}
    assert own.isdisjoint(id(part) for part in vars(second.ranker).values())


def answers(plan: Plan, history: History) -> tuple[object, ...]:
    """All that a plan is asked, at a history and at its end."""
    jobs = plan.jobs(history)
    ends = study_history(search(plan, table()))
    return (
        jobs if isinstance(jobs, Finished) else list(jobs),
        plan.winner(history),
        plan.ranking(history),
        plan.winner(ends),
        plan.jobs(ends),
    )


def test_a_budget_of_nothing_stops_before_the_first_trial() -> None:
    chosen = settings("mordal", device_hours=1.0)
    plan = build_plan(chosen, tree(), FULL, spent_seconds=3600.0)
    assert Budget(1.0, 3600.0).over(study_history(optuna.create_study())) is not None
    measure = table()
    study = search(plan, measure)
    assert len(measure.runs) <= 1
    assert study.user_attrs[STOPPED_BECAUSE] == "budget spent: 1 device-hours"
