"""Costs: the total is what was spent."""

from __future__ import annotations

from mordal_optuna.study.costs import Costs


def test_the_total_counts_every_part_but_reused_results() -> None:
    costs = Costs(
        features=1.0,
        similarity=2.0,
        warmup=4.0,
        training=8.0,
        evaluation=16.0,
        lost=32.0,
        reused=64.0,
    )
    assert costs.total == 63.0
    assert Costs().total == 0.0
