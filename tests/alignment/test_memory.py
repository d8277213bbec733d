"""The budget of tokens: bounds found in training hold for as long as needed, and no longer."""

from __future__ import annotations

from mordal_optuna.alignment.memory import TokenBudget


def steps(budget: TokenBudget, number: int) -> None:
    for _ in range(number):
        budget.fitted()


def test_without_an_error_the_bounds_are_those_given() -> None:
    assert TokenBudget(None, None).allows(1000, 1000, 4096)
    assert [TokenBudget(8, None).allows(n, n, 4096) for n in (8, 9)] == [True, False]
    assert [TokenBudget(None, 100).allows(n, n, 10) for n in (10, 11)] == [True, False]
    assert TokenBudget(8, 100).allows(1, 1, 4096)  # a single sample always


def test_an_error_bounds_rows_of_that_length_and_longer_ones() -> None:
    """8 rows of 2,000 tokens failed: 6 such rows are tried next; 8 of 500 are allowed still."""
    budget = TokenBudget(8, None)
    budget.failed(8, 2000)
    assert [budget.allows(n, n, 2000) for n in (6, 7)] == [True, False]
    assert [budget.allows(n, n, 4000) for n in (3, 4)] == [True, False]
    assert budget.allows(8, 8, 500)


def test_a_bound_rises_until_it_is_gone_and_each_further_error_makes_it_rise_later() -> None:
    """From 6 of 8 rows to 7.5, and to all."""
    budget = TokenBudget(8, None)
    for patience in (32, 64, 128):
        budget.failed(8, 1000)
        steps(budget, patience - 1)
        assert not budget.allows(7, 7, 1000)
        steps(budget, 1)
        assert [budget.allows(n, n, 1000) for n in (7, 8)] == [True, False]
        steps(budget, patience)
        assert budget.allows(8, 8, 1000)
