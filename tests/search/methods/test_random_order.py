"""The method `random`."""

from __future__ import annotations

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.methods.building import build_plan
from tests.search.synthetic import FULL, search, settings, table, tree


def test_random_trains_fully_in_an_order_of_its_seed_until_the_budget_is_spent() -> None:
    orders = []
    for seed in (0, 0, 1):
        measure = table()
        study = search(build_plan(settings("random"), tree(), FULL, seed=seed), measure)
        assert {samples for _, samples in measure.runs} == {FULL}
        assert {c for c, _ in measure.runs} == set(tree().candidates)
        assert study.user_attrs[STOPPED_BECAUSE].startswith("pool exhausted")
        orders.append([c for c, _ in measure.runs])
    assert orders[0] == orders[1] != orders[2]
    measure = table()
    hours = 2.5 * FULL / 100 / 3600
    search(build_plan(settings("random", device_hours=hours), tree(), FULL), measure)
    assert len(measure.runs) == 3
