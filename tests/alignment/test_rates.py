"""Measured rates are those of the work that is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mordal_optuna.alignment import rates

if TYPE_CHECKING:
    import torch


@pytest.mark.slow
def test_rates_are_plausible(cpu: torch.device) -> None:
    """A product of matrices does more operations a second than an elementwise operation."""
    found = rates.measure(cpu, "fp32", [(256, 256, 256)])
    assert found.products > 1 / found.element_seconds
    assert found.operation_seconds > 1e-7


def test_seconds_are_the_mean(monkeypatch: pytest.MonkeyPatch, cpu: torch.device) -> None:
    """On a clock that work alone moves, after one call that is not counted."""
    clock = [0.0]
    monkeypatch.setattr(rates, "perf_counter", lambda: clock[0])

    def work() -> None:
        clock[0] += 0.1 if clock[0] else 5.0

    assert rates._seconds(work, cpu, 0.35) == pytest.approx(0.1)
