"""Costs learned from earlier jobs."""

from __future__ import annotations

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.joint.job_costs import JobCosts

FULL = 1000


def measured(
    rate: float, samples: int = 100, evaluation: float = 5.0
) -> dict[str, tuple[Measurement, ...]]:
    row = Measurement(samples, 0.5, train_seconds=rate * samples, eval_seconds=evaluation)
    return {"": (row,)}


def test_costs_of_untrained_pairs_follow_from_their_parts() -> None:
    """v1 and m1 are each four times as expensive as the others."""
    rates = {("v0", "m0"): 1.0, ("v1", "m0"): 4.0, ("v0", "m1"): 4.0, ("v2", "m2"): 1.0}
    costs = JobCosts.learned({Candidate(*c): measured(r) for c, r in rates.items()}, FULL)
    dear, cheap = Candidate("v1", "m1"), Candidate("v0", "m2")
    assert costs.train(dear, 10) > 6 * costs.train(cheap, 10)
    assert costs.train(Candidate("v1", "m0"), 10) == pytest.approx(40.0, rel=0.25)
    assert costs.evaluate(dear) == pytest.approx(5.0, rel=0.1)


def test_the_noise_of_timing_changes_no_expected_cost() -> None:
    def costs(noise: float) -> float:
        given = {Candidate(f"v{n}", f"m{n}"): measured(2.0 * (1 + noise)) for n in range(3)}
        return JobCosts.learned(given, FULL).train(Candidate("v0", "m1"), 10)

    assert costs(0.0) == costs(0.04) == costs(-0.04)


def test_each_task_has_its_own_cost_and_before_costs_are_known_its_documents() -> None:
    pair = Candidate("v", "m")
    rows = {task: measured(1.0, evaluation=s)[""] for task, s in (("a", 2.0), ("b", 8.0))}
    costs = JobCosts.learned({pair: rows}, FULL)
    assert [costs.evaluate(pair, task) for task in "ab"] == pytest.approx([2.0, 8.0], rel=0.1)
    plain = {"a": (Measurement(100, 0.5),), "b": ()}
    unknown = JobCosts.learned({pair: plain}, FULL, {"a": 100, "b": 300})
    assert unknown.evaluate(pair, "b") == pytest.approx(3 * unknown.evaluate(pair, "a"))
    assert unknown.train(pair, FULL) == 1.0


def test_without_reported_costs_samples_are_counted() -> None:
    costs = JobCosts.learned({Candidate("v", "m"): {"": (Measurement(100, 0.5),)}}, FULL)
    assert costs.train(Candidate("v", "n"), 500) == 0.5
    assert 0 < costs.evaluate(Candidate("v", "n")) < 0.05
